"""Runs beside each other on one page: scores, losses, ledger, router, what trained, in which settings they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from modalign.errors import ModalignError
from modalign.evaluation.report.comparison_parts import (
    freeze_map_html,
    results_table_html,
    routers_html,
    samples_beside_html,
    settings_html,
)
from modalign.evaluation.report.comparison_scores import ledgers_beside_html, losses_beside_html, scores_beside_html
from modalign.evaluation.report.page import Section, Tile, render_page, sentences, tiles
from modalign.evaluation.report.phrases import count, duration, percent
from modalign.evaluation.report.source import RunRecord, read_ancestors, read_run
from modalign.runs.files import write_atomic
from modalign.runs.record import FILE as RECORD
from modalign.runs.record import read_record


def write_comparison(folders: Sequence[Path], file: Path, title: str = "") -> Path:
    """Write one HTML page over runs and curricula (of these, every phase's run) and return its path.

    Raises ModalignError where there is no run at all, and for a folder that holds neither.
    """
    runs = [read_run(folder) for folder in run_folders(folders)]
    if not runs:
        raise ModalignError(f"{', '.join(map(str, folders))}: no phase has run there yet, so there is nothing to show")
    chains = [[*read_ancestors(run), run] for run in runs]
    write_atomic(Path(file), comparison_page(runs, chains, title).encode("utf-8"))
    return Path(file)


def run_folders(folders: Sequence[Path]) -> list[Path]:
    """The folders of runs, each once; a curriculum's folder stands for the runs of its phases."""
    found: list[Path] = []
    for folder in map(Path, folders):
        if (folder / RECORD).is_file():
            found += [folder / phase.run for phase in read_record(folder).phases]
        else:
            found.append(folder)
    return list({path.resolve(): path for path in found}.values())


def comparison_page(runs: Sequence[RunRecord], chains: Sequence[Sequence[RunRecord]], title: str = "") -> str:
    """The page as text; `chains` are the runs' lineages, each ending with its run."""
    names = labels_of(runs)
    title = title or (f"{len(runs)} runs side by side" if len(runs) > 1 else runs[0].manifest.name)
    sections = [
        Section("summary", "The runs", _summary(names)),
        Section("scores", "Scores", scores_beside_html(names)),
        Section("ledger", "The forgetting ledgers", ledgers_beside_html(dict(zip(names, chains, strict=True)))),
        Section("losses", "Losses by modality", losses_beside_html(names)),
        Section("router", "Router and experts", routers_html(names)),
        Section("parts", "What trained", freeze_map_html(names)),
        Section("settings", "Settings that differ", settings_html(names)),
        Section("samples", "The same samples", samples_beside_html(names)),
        Section("numbers", "All numbers", results_table_html(names)),
    ]
    return render_page(title, "a comparison by modalign", sections)


def labels_of(runs: Sequence[RunRecord]) -> Mapping[str, RunRecord]:
    """A short name for each run: what it added, with as much of its folder's name as tells it from the others."""
    labels = [run.label for run in runs]
    named: dict[str, RunRecord] = {}
    for run, label in zip(runs, labels, strict=True):
        name = label if labels.count(label) == 1 else f"{label} {run.manifest.identity[:8]}"
        named[name if name not in named else run.folder.resolve().name] = run
    if len(named) < len(runs):  # folders of one name in different places
        named = {str(run.folder): run for run in runs}
    return named


def _summary(runs: Mapping[str, RunRecord]) -> str:
    boxes, lines = [], []
    for name, run in runs.items():
        manifest = run.manifest
        training = sum(part["parameters"] for part in manifest.parts if part["trains"])
        total = sum(part["parameters"] for part in manifest.parts) or 1
        tone = "" if manifest.status == "finished" else "bad"
        note = f"{count(manifest.steps)} steps, {count(sum(manifest.consumed.values()))} samples"
        note += f", {duration(sum(manifest.seconds.values()))}" if manifest.seconds else ""
        boxes.append(Tile(name, manifest.status, note, tone))
        reason = f" ({manifest.reason})" if manifest.reason else ""
        told = f"{count(training)} of {count(total)} parameters trained ({percent(training / total)})"
        lines.append(f"{name}: {manifest.name}, {manifest.status}{reason}; {told}.")
    return tiles(boxes) + sentences(lines)
