"""How a step of a run is reached again: from which checkpoint, how far, and what is there to compare with."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from modalign.errors import ModalignError
from modalign.runs.manifest import Manifest, read_manifest
from modalign.runs.metrics import Metric, MetricLog
from modalign.runs.sealed import STATE, list_checkpoints, read_seal, verify_checkpoint

LOSS = "train/loss"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Route:
    """From `start` (None: the start values) through `step` to `last`, where the run logged a row or saved `target`."""

    run: Path
    manifest: Manifest
    step: int
    start: Path | None
    first: int
    last: int
    rows: tuple[Metric, ...]
    target: Path | None

    @property
    def seconds(self) -> float:
        """What the run itself took for as many steps."""
        return self.manifest.seconds.get("training", 0.0) / max(self.manifest.steps, 1) * (self.last - self.first)


def find_route(run: Path, step: int, prove: bool = False, from_start: bool = False) -> Route:
    """The shortest way to see optimizer step `step` (the first is 1) of the run in `run` again.

    `prove` goes on to the next checkpoint, `from_start` begins at the start values whatever is kept. ModalignError
    where the run never came to that step, or its data were streamed.
    """
    manifest = read_manifest(run)
    if manifest.config.get("data", {}).get("reader") == "webdataset":
        raise ModalignError(
            f"run {manifest.name} streamed its data (data.reader=webdataset): which samples a step saw cannot be told"
        )
    rows = tuple(MetricLog(run / "metrics.csv").read())
    whole = _whole_checkpoints(run)
    reached = max([0, *(row.step for row in rows), *whole])
    if not 1 <= step <= reached:
        raise ModalignError(
            f"run {manifest.name} has done steps 1 to {reached} of {manifest.steps}, and no step {step}"
        )
    before = [number for number, path in whole.items() if number < step and STATE in read_seal(path)["files"]]
    first = 0 if from_start or not before else max(before)
    last = min((row.step for row in rows if row.step >= step and row.name == LOSS), default=step)
    if prove and (saved := [n for n in whole if n >= last] or [n for n in whole if n >= step]):
        last = min(saved)
    return Route(run, manifest, step, whole[first] if first else None, first, last, rows, whole.get(last))


def _whole_checkpoints(run: Path) -> dict[int, Path]:
    """The run's checkpoints by step; one that is damaged is named in a warning."""
    found: dict[int, Path] = {}
    for path in list_checkpoints(run / "checkpoints"):
        try:
            verify_checkpoint(path, quick=True)
            found[int(read_seal(path)["step"])] = path
        except ModalignError as error:
            log.warning("%s; it is left out", error)
    return found
