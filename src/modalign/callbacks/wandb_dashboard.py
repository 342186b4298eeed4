"""A W&B run beside metrics.csv: one id, one row a step and one curve, however often the run is stopped and resumed."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

from modalign.callbacks.wandb_history import drop_empty, last_logged_step
from modalign.callbacks.wandb_lineage import log_checkpoint, use_parent
from modalign.callbacks.wandb_results import evaluation_values
from modalign.config.schema import LoggerSettings
from modalign.errors import ModalignError
from modalign.runs.files import write_atomic
from modalign.runs.folder import RunFolder
from modalign.runs.grouping import experiment_of
from modalign.runs.manifest import Manifest
from modalign.runs.metrics import Metric
from modalign.runs.redaction import redacted, redacted_words

ID_FILE = "wandb-id"
STEP_FILE = "wandb-step"  # the last step of the sittings that were ended: their files may be synced and gone
BY_MODALITY = ("train/loss", "val/loss")
_LONGEST_TAG = 64

log = logging.getLogger(__name__)


class WandbDashboard:
    """Group is the experiment, job type the stage, tags the modalities; what W&B holds already is not sent again.

    `consumed`, once it is set, tells how many samples of each modality an optimizer step has behind it: the axis of
    that modality's own losses. All else stands over the optimizer step, scores over the number of the phase.
    """

    def __init__(self, settings: LoggerSettings, folder: RunFolder, manifest: Manifest) -> None:
        try:
            import wandb
        except ImportError:
            raise ModalignError("logger=wandb needs the package wandb: pip install 'modalign[wandb]'") from None
        self.folder = folder
        self.consumed: Callable[[int], Mapping[str, int]] | None = None
        run_id = _run_id(folder)
        drop_empty(folder.path / "wandb", run_id)
        held = max(last_logged_step(folder.path / "wandb", run_id), _step_of_ended(folder))
        group = settings.group or experiment_of(manifest.command)
        try:
            self._run: Any = wandb.init(
                project=settings.project, entity=settings.entity, group=redacted(group),
                job_type=manifest.stage, name=folder.name, tags=tags_of(settings, manifest), id=run_id, resume="allow",
                mode=settings.mode, dir=str(folder.path), config=config_of(manifest),
                settings=wandb.Settings(
                    console="off", silent=True, disable_git=True, save_code=False, x_disable_meta=True,
                    init_timeout=settings.patience_s, finish_timeout=settings.patience_s,
                ),
            )  # fmt: skip
        except (wandb.errors.CommError, wandb.errors.UsageError, wandb.errors.AuthenticationError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ModalignError(
                f"logger=wandb cannot begin ({reason}): log in with `wandb login`, or write to the run's folder with "
                f"logger.mode=offline"
            ) from None
        online = settings.mode == "online" and bool(self._run.resumed)
        self._held = self._run.step - 1 if online else held
        self._last = self._held
        self._axes()

    def begin(self, rows: Sequence[Metric]) -> None:
        """Send what was measured before, as far as W&B does not hold it: a stretch that was killed, or a run's first.

        `rows` are those of metrics.csv, in order; they end at the step that training goes on from.
        """
        for name in self.consumed(0) if self.consumed else ():
            for prefix in BY_MODALITY:
                self._run.define_metric(f"{prefix}/{name}", step_metric=f"samples/{name}")
        for step, found in groupby(rows, lambda row: row.step):
            self.log({row.name: row.value for row in found}, step)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Send values measured at an optimizer step; all values of one step make one row."""
        if step > self._held:
            self._last = step
            samples = self.consumed(step) if self.consumed else {}
            self._run.log({**values, **{f"samples/{m}": n for m, n in samples.items()}, "step": step}, step=step)

    def results(self, manifest: Manifest) -> None:
        """Send what came of the run: samples with media, scores, ledger, router; its checkpoint and its parent."""
        step = max(manifest.steps, self._held) + 1
        self._last = step
        with _staged_in(self.folder.path / "wandb"):
            self._run.log({**evaluation_values(self.folder.path), "step": manifest.steps}, step=step)
            use_parent(self._run, manifest)
            log_checkpoint(self._run, manifest)

    def finish(self, failed: bool = False) -> None:
        """End the W&B run; of one that failed or was stopped, W&B is told so."""
        self._run.finish(exit_code=1 if failed else 0)
        write_atomic(self.folder.path / STEP_FILE, str(self._last).encode())

    def _axes(self) -> None:
        self._run.define_metric("step", hidden=True)
        self._run.define_metric("*", step_metric="step")
        self._run.define_metric("phase", hidden=True)
        for name in ("score/*", "ledger/*", "router/*"):
            self._run.define_metric(name, step_metric="phase")


@contextmanager
def open_dashboard(settings: LoggerSettings, folder: RunFolder, manifest: Manifest) -> Iterator[WandbDashboard]:
    """A dashboard that is given the results where the run ends well, and is ended however it ends."""
    dashboard = WandbDashboard(settings, folder, manifest)
    try:
        yield dashboard
    except BaseException:
        dashboard.finish(failed=True)
        raise
    try:
        dashboard.results(manifest)
    except Exception as error:  # the run is finished and written: what W&B did not take must not undo that
        log.warning(f"{folder.name}: W&B did not take the results ({error}); they lie in {folder.results_file}")
    dashboard.finish()


@contextmanager
def _staged_in(folder: Path) -> Iterator[None]:
    """W&B keeps what is to be sent in the home folder, which may not be there where an offline run is synced from."""
    name = "WANDB_DATA_DIR"
    given = os.environ.get(name)
    os.environ[name] = given or str(folder)
    try:
        yield
    finally:
        if given is None:
            del os.environ[name]


def tags_of(settings: LoggerSettings, manifest: Manifest) -> list[str]:
    """The settings' own tags, then the modalities, the new ones first; as long as W&B takes them."""
    modalities = [*manifest.modalities.get("new", []), *manifest.modalities.get("seen", [])]
    words = redacted([*settings.tags, *modalities])
    return list(dict.fromkeys(str(word)[:_LONGEST_TAG] for word in words))


def config_of(manifest: Manifest) -> dict[str, Any]:
    """The resolved configuration without secrets, and under `run` what the manifest says that no setting does."""
    told = {
        "name": manifest.name, "identity": manifest.identity, "command": redacted_words(manifest.command),
        "new": manifest.modalities.get("new", []), "seen": manifest.modalities.get("seen", []),
        "parent": manifest.parent and {key: manifest.parent[key] for key in ("name", "digest")},
        "code": manifest.code, "versions": manifest.versions, "steps": manifest.steps,
        "trains": [part["name"] for part in manifest.parts if part["trains"]],
    }  # fmt: skip
    return {**redacted(manifest.config), "run": told}


def _step_of_ended(folder: RunFolder) -> int:
    file = folder.path / STEP_FILE
    return int(file.read_text()) if file.exists() else -1


def _run_id(folder: RunFolder) -> str:
    file = folder.path / ID_FILE
    if not file.exists():
        write_atomic(file, secrets.token_hex(4).encode())
    return file.read_text().strip()
