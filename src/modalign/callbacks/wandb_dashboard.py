"""Metrics to Weights & Biases: one id for a run however often it is resumed; nothing secret is sent."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from typing import Any

from modalign.config.schema import LoggerSettings
from modalign.errors import ModalignError
from modalign.runs.files import write_atomic
from modalign.runs.folder import RunFolder

_SECRET = re.compile(r"(token|secret|password|passwd|api_?key|credential|authorization)", re.IGNORECASE)
_SHAPED = re.compile(
    r"\b(hf_[A-Za-z0-9]{8,}|wandb_v\d_\w{8,}|[0-9a-f]{40}|AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{20,})\b"
)


class WandbDashboard:
    """A W&B run beside metrics.csv; its id lies in the run folder, so that a resumed run goes on in the same one."""

    def __init__(
        self,
        settings: LoggerSettings,
        folder: RunFolder,
        stage: str,
        modalities: tuple[str, ...],
        config: dict[str, Any],
    ) -> None:
        try:
            import wandb
        except ImportError:
            raise ModalignError("logger=wandb needs the package wandb: pip install 'modalign[wandb]'") from None
        options = wandb.Settings(console="off", silent=True, disable_git=True, save_code=False, x_disable_meta=True)
        self._run = wandb.init(
            project=settings.project, entity=settings.entity, group=settings.group, job_type=stage, name=folder.name,
            tags=[*settings.tags, *modalities], id=_run_id(folder), resume="allow", mode=settings.mode,
            dir=str(folder.path), config=redacted(config), settings=options,
        )  # fmt: skip
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Send values measured at an optimizer step."""
        self._run.log({**values, "step": step})

    def finish(self) -> None:
        """End the W&B run."""
        self._run.finish()


def redacted(value: Any, key: str = "") -> Any:
    """A config without what looks like a secret, by its key or by its shape."""
    if isinstance(value, Mapping):
        return {name: redacted(child, str(name)) for name, child in value.items()}
    if isinstance(value, (list, tuple)):
        return [redacted(child, key) for child in value]
    if isinstance(value, str) and ((_SECRET.search(key) and "tokenizer" not in key) or _SHAPED.search(value)):
        return "(removed)"
    return value


def _run_id(folder: RunFolder) -> str:
    file = folder.path / "wandb-id"
    if not file.exists():
        write_atomic(file, secrets.token_hex(4).encode())
    return file.read_text().strip()
