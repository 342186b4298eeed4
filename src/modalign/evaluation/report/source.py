"""What a report is made of: a run folder's manifest, curves and results, and those of the runs it grew from."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modalign.evaluation.ledger import Ledger, build_ledger
from modalign.evaluation.scores import RESULTS_FILE, Results, read_results
from modalign.runs.manifest import Manifest, find_manifest, read_manifest
from modalign.runs.metrics import MetricLog

_NAMED = 4

Curves = dict[str, list[tuple[float, float]]]


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run as the report sees it; `results` is None where it was not evaluated (yet)."""

    folder: Path
    manifest: Manifest
    curves: Curves
    results: Results | None

    @property
    def new(self) -> list[str]:
        """The modalities that the run added."""
        return list(self.manifest.modalities.get("new", []))

    @property
    def modalities(self) -> list[str]:
        """All its modalities: the earlier ones in their order, then the new ones."""
        return list(dict.fromkeys([*self.manifest.modalities.get("seen", []), *self.new]))

    @property
    def label(self) -> str:
        """The phase in short: its stage and what it added."""
        stage = self.manifest.stage
        return f"{stage} {' + '.join(self.new)}".strip() if len(self.new) <= _NAMED else stage


def read_run(folder: Path) -> RunRecord:
    """The run in `folder`; ModalignError where there is none."""
    manifest = read_manifest(folder)
    results = read_results(folder) if (folder / RESULTS_FILE).exists() else None
    return RunRecord(folder, manifest, read_curves(folder / "metrics.csv"), results)


def read_curves(path: Path) -> Curves:
    """metrics.csv by name: (step, value) in the order of steps; values that are not finite are left out."""
    curves: Curves = {}
    for step, name, value in MetricLog(path).read():
        if math.isfinite(value):
            curves.setdefault(name, []).append((float(step), value))
    return curves


def read_ancestors(run: RunRecord) -> list[RunRecord]:
    """The runs that this one grew from, eldest first, as far back as their folders are found."""
    chain: list[RunRecord] = []
    seen = {run.folder.resolve()}
    child = run
    while (folder := _parent_folder(child)) is not None and folder.resolve() not in seen:
        seen.add(folder.resolve())
        child = read_run(folder)
        chain.append(child)
    return chain[::-1]


def ledger_of(runs: Sequence[RunRecord], split: str = "test") -> Ledger | None:
    """The caption ledger of runs in order; None where fewer than one of them was scored on that split."""
    measured = [run for run in runs if _scored(run, split) or _unmeasured(run)]
    if all(run.results is None for run in measured):
        return None
    return build_ledger([(run.label, run.new, run.results) for run in measured], split=split)


def _scored(run: RunRecord, split: str) -> bool:
    return run.results is not None and any(score.split == split for score in run.results.scores)


def _unmeasured(run: RunRecord) -> bool:
    """A finished phase of which results should be there; backbones have none."""
    return run.results is None and bool(run.new) and run.manifest.status == "finished"


def tints_of(runs: Sequence[RunRecord]) -> Mapping[str, int]:
    """A colour number for each modality and whatever else was scored, the same in every chart of a page."""
    known = [name for run in runs for name in run.modalities]
    scored = [score.modality for run in runs if run.results for score in run.results.scores]
    return {name: i for i, name in enumerate(dict.fromkeys([*known, *scored]))}


def _parent_folder(run: RunRecord) -> Path | None:
    parent = run.manifest.parent
    if not parent:
        return None
    written = Path(os.path.normpath(run.folder.resolve() / parent["path"]))
    # Runs folders get moved and copied: the parent is then still beside its child.
    for folder in (written, run.folder.resolve().parent / written.name):
        if find_manifest(folder) is not None:
            return folder
    return None
