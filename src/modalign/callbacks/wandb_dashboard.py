"""Metrics to Weights & Biases: one id for a run however often it is resumed; nothing secret is sent."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from modalign.config.schema import LoggerSettings
from modalign.errors import ModalignError
from modalign.runs.files import write_atomic
from modalign.runs.folder import RunFolder
from modalign.runs.redaction import redacted


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


def _run_id(folder: RunFolder) -> str:
    file = folder.path / "wandb-id"
    if not file.exists():
        write_atomic(file, secrets.token_hex(4).encode())
    return file.read_text().strip()
