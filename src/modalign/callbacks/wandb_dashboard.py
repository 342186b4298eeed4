"""Metrics to Weights & Biases: one id for a run however often it is resumed; nothing secret is sent."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping
from typing import Any

from modalign.config.schema import LoggerSettings
from modalign.errors import ModalignError
from modalign.runs.files import write_atomic
from modalign.runs.folder import RunFolder

_SECRET = re.compile(
    r"(token(?!s|iz)|secret|passw(or)?d|passphrase|(api|access|private)_?key|credential|authorization)", re.IGNORECASE
)
_SHAPED = re.compile(
    r"\b(hf_[A-Za-z0-9]{8,}|wandb_v\d_\w{8,}|sk-[\w-]{16,}|[0-9a-f]{40}|AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{20,})\b"
    r"|://[^/\s:@]+:[^/\s@]+@"
)
_REMOVED = "(removed)"


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
            tags=redacted([*settings.tags, *modalities]), id=_run_id(folder), resume="allow", mode=settings.mode,
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


def redacted(value: Any) -> Any:
    """A config without secrets: known by their key, by their shape, or since the environment keeps them as such."""
    if isinstance(value, Mapping):
        return {
            redacted(str(key)): _REMOVED if child is not None and _SECRET.search(str(key)) else redacted(child)
            for key, child in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [redacted(child) for child in value]
    if isinstance(value, str) and (_SHAPED.search(value) or any(secret in value for secret in _environment())):
        return _REMOVED
    return value


def _environment() -> list[str]:
    """Values of environment variables that are named as secrets; what is short could be any word."""
    return [value for name, value in os.environ.items() if _SECRET.search(name) and len(value) >= 8]


def _run_id(folder: RunFolder) -> str:
    file = folder.path / "wandb-id"
    if not file.exists():
        write_atomic(file, secrets.token_hex(4).encode())
    return file.read_text().strip()
