"""report.html of a curriculum: the ledger over all its phases, each phase in short, and where the time went."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from modalign.evaluation.report.charts import Curve
from modalign.evaluation.report.findings import headline_scores, router_html, scores_html
from modalign.evaluation.report.page import Section, Tile, folded, render_page, sentences, table, text, tiles
from modalign.evaluation.report.phrases import count, duration, percent
from modalign.evaluation.report.run_report import REPORT_FILE, ledgers_html
from modalign.evaluation.report.samples import samples_html
from modalign.evaluation.report.source import RunRecord, ledger_of, read_run, tints_of
from modalign.evaluation.report.summary import (
    forgetting_sentences,
    ledger_tiles,
    parameters_of,
    proof_sentences,
    score_sentences,
    score_tiles,
    warning_sentences,
    work_sentence,
)
from modalign.evaluation.report.training import losses_html
from modalign.runs.files import write_atomic
from modalign.runs.manifest import find_manifest
from modalign.runs.record import CurriculumRecord, read_record

_SHOWN_SAMPLES = 3


def write_curriculum_report(curriculum_folder: Path) -> Path:
    """Write report.html into a curriculum's folder from curriculum.json and the runs it lists; returns its path.

    Phases whose run is gone are named and left out. Raises ModalignError where the folder holds no curriculum.
    """
    folder = Path(curriculum_folder)
    record = read_record(folder)
    runs, missing = [], []
    for phase in record.phases:
        run_folder = Path(os.path.normpath(folder.resolve() / phase.run))
        if find_manifest(run_folder) is None:
            missing.append(phase.run)
        else:
            runs.append(read_run(run_folder))
    path = folder / REPORT_FILE
    write_atomic(path, curriculum_page(record, folder, runs, missing).encode("utf-8"))
    return path


def curriculum_page(record: CurriculumRecord, folder: Path, runs: list[RunRecord], missing: list[str]) -> str:
    """The page as text."""
    modalities = list(dict.fromkeys(m for run in runs for m in run.modalities))
    tints = tints_of(runs)
    last = next((run for run in reversed(runs) if run.results is not None), None)
    results = last.results if last else None
    after = "the last phase" if last is None or last is runs[-1] else f"{last.label}, the last that was measured"
    sections = [
        Section("summary", "What this curriculum shows", _summary(record, runs, missing, last)),
        Section("ledger", "The forgetting ledger", ledgers_html(runs)),
        Section("phases", "Phases", _phase_table(folder, runs)),
        Section("scores", f"Scores after {after}", scores_html(results.scores, tints) if results else ""),
        Section("samples", f"Samples after {after}", _samples(last)),
        Section("losses", "Losses", _losses(runs, tints)),
        Section("router", "Router and experts after the last phase", _router(runs)),
        Section("each", "Each phase in words", _phase_words(runs)),
        Section("time", "Time", _time_table(runs)),
    ]
    phases = f"{len(record.phases)} phases, {len(modalities)} modalities"
    return render_page(f"Curriculum {record.name}", f"a curriculum of modalign, {phases}", sections)


def _summary(record: CurriculumRecord, runs: list[RunRecord], missing: list[str], last: RunRecord | None) -> str:
    ledger = ledger_of(runs)
    scores = last.results.scores if last and last.results else ()
    seconds = sum(sum(run.manifest.seconds.values()) for run in runs)
    steps = sum(run.manifest.steps for run in runs)
    boxes = [*score_tiles(scores, ()), *ledger_tiles(ledger)]
    boxes += [Tile("time", duration(seconds), f"of {len(runs)} phases")] if seconds else []
    lines = [f"{len(runs)} phases ran {count(steps)} optimizer steps in {duration(seconds)}."]
    lines += [*score_sentences(scores, ()), *forgetting_sentences(ledger)]
    notes = "".join(f'<div class="banner">The run of a phase is gone: {text(name)}.</div>' for name in missing)
    for run in runs:
        if run.results is None and run.manifest.status == "finished":
            notes += f'<div class="banner">No results of {text(run.folder.name)}: modalign evaluate measures it.</div>'
    if record.status != "finished":
        reason = f": {text(record.reason)}" if record.reason else ""
        notes += f'<div class="banner">This curriculum is <strong>{text(record.status)}</strong>{reason}.</div>'
    return notes + tiles(boxes) + sentences(lines)


def _phase_table(folder: Path, runs: list[RunRecord]) -> str:
    rows = []
    for number, run in enumerate(runs, start=1):
        total, training = parameters_of(run.manifest)
        scores = run.results.scores if run.results else ()
        own = [s for s in headline_scores(scores, "caption") if s.split == "test" and s.modality in run.new]
        scored = {s.modality: f" {percent(s.value)}" for s in own}
        reached = "<br>".join(text(name + scored.get(name, "")) for name in run.new)
        state = "" if run.manifest.status == "finished" else f' <span class="bad">{text(run.manifest.status)}</span>'
        rows.append(
            [
                str(number),
                _report_link(folder, run) + state,
                reached,
                count(run.manifest.steps),
                count(sum(run.manifest.consumed.values())),
                f"{count(training)} ({percent(training / total)})" if total else "",
                duration(sum(run.manifest.seconds.values())),
            ]
        )
    header = ("", "run", "new, with its captions' score", "steps", "samples", "parameters trained", "time")
    return table(header, rows, numbers=(3, 4, 5, 6)) if rows else ""


def _report_link(folder: Path, run: RunRecord) -> str:
    """The run's name, leading to its own report where that lies beside this one."""
    report = run.folder / REPORT_FILE
    if not report.exists():
        return text(run.manifest.name)
    path = os.path.relpath(report.resolve(), folder.resolve())
    return f'<a href="{quote(path)}">{text(run.manifest.name)}</a>'


def _samples(last: RunRecord | None) -> str:
    return samples_html(last.folder, last.results.samples, _SHOWN_SAMPLES) if last and last.results else ""


def _losses(runs: list[RunRecord], tints: Mapping[str, int]) -> str:
    """All phases' losses in a row: each phase's steps follow those of the one before."""
    joined: dict[str, Curve] = {}
    offset = 0.0
    for run in runs:
        for name, curve in run.curves.items():
            if name.startswith(("train/loss", "val/loss")):
                joined[name] = [*joined.get(name, []), *((step + offset, value) for step, value in curve)]
        offset += run.manifest.steps
    whole = losses_html({name: list(curve) for name, curve in joined.items()}, tints)
    each = "".join(f"<h3>{text(run.label)}</h3>{losses_html(run.curves, tints)}" for run in runs)
    return whole + folded("each phase on its own", each) if whole else ""


def _router(runs: list[RunRecord]) -> str:
    with_router = [run for run in runs if run.results and run.results.router]
    return router_html(with_router[-1].results) if with_router and with_router[-1].results else ""


def _phase_words(runs: list[RunRecord]) -> str:
    parts = []
    for i, run in enumerate(runs):
        scores = run.results.scores if run.results else ()
        lines = [work_sentence(run), *score_sentences(scores, run.new)]
        lines += [
            *forgetting_sentences(ledger_of(runs[: i + 1])),
            *warning_sentences(run.manifest),
            *proof_sentences(run.manifest),
        ]
        parts.append(f"<h3>{i + 1}. {text(run.label)}</h3>{sentences(lines)}")
    return "".join(parts)


def _time_table(runs: list[RunRecord]) -> str:
    """Seconds by phase and section, with sums both ways."""
    names = list(dict.fromkeys(name for run in runs for name in run.manifest.seconds))
    if not names:
        return ""
    rows = []
    for run in runs:
        seconds = run.manifest.seconds
        rows.append([text(run.label), *(_seconds(seconds.get(n)) for n in names), _seconds(sum(seconds.values()))])
    sums = [sum(run.manifest.seconds.get(name, 0.0) for run in runs) for name in names]
    rows.append(["all", *(_seconds(value) for value in sums), _seconds(sum(sums))])
    return table(("phase", *names, "all"), rows, numbers=range(1, len(names) + 2), last="total")


def _seconds(value: float | None) -> str:
    return "" if value is None else duration(value)
