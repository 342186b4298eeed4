"""report.html of a run: its numbers first, then what stands behind them."""

from __future__ import annotations

from pathlib import Path

from modalign.evaluation.probes.findings import find_probes
from modalign.evaluation.report.findings import ledger_html, router_html, scores_html
from modalign.evaluation.report.page import Section, folded, render_page, sentences, text, tiles
from modalign.evaluation.report.phrases import count, percent, points
from modalign.evaluation.report.probes import probes_html
from modalign.evaluation.report.samples import samples_html
from modalign.evaluation.report.source import RunRecord, ledger_of, read_ancestors, read_run, tints_of
from modalign.evaluation.report.summary import (
    forgetting_sentences,
    ledger_tiles,
    parameters_of,
    proof_sentences,
    score_sentences,
    score_tiles,
    warning_sentences,
    work_sentence,
    work_tiles,
)
from modalign.evaluation.report.training import (
    data_html,
    lineage_html,
    losses_html,
    parts_html,
    provenance_html,
    time_html,
)
from modalign.runs.files import write_atomic

REPORT_FILE = "report.html"


def write_run_report(run_folder: Path) -> Path:
    """Write report.html into a run's folder from its manifest, metrics, results and samples; returns its path.

    A run that is still running, or was not evaluated, gets the sections that there is something for. Raises
    ModalignError where the folder holds no run or a file in it is damaged.
    """
    run = read_run(Path(run_folder))
    path = run.folder / REPORT_FILE
    write_atomic(path, run_page(run, read_ancestors(run)).encode("utf-8"))
    return path


def run_page(run: RunRecord, ancestors: list[RunRecord]) -> str:
    """The page as text."""
    tints = tints_of([*ancestors, run])
    results = run.results
    sections = [
        Section("summary", "What this run shows", summary_html(run, [*ancestors, run])),
        Section("scores", "Scores", scores_html(results.scores, tints) if results else ""),
        Section("ledger", "The forgetting ledger", ledgers_html([*ancestors, run])),
        Section("samples", "Samples", samples_html(run.folder, results.samples) if results else ""),
        Section("losses", "Losses", losses_html(run.curves, tints)),
        Section("probes", "Is each sensor used?", probes_html(find_probes(run.folder), _probing_share(run))),
        Section("router", "Router and experts", router_html(results) if results else ""),
        Section("parts", "What trained", parts_html(run.manifest)),
        Section("data", "Data", data_html(run.manifest)),
        Section("lineage", "Lineage", lineage_html(run, ancestors)),
        Section("time", "Time", time_html(run.manifest.seconds)),
        Section("provenance", "How to do it again", provenance_html(run.manifest)),
    ]
    return render_page(run.manifest.name, f"a run of modalign, stage {run.manifest.stage}", sections)


def summary_html(run: RunRecord, chain: list[RunRecord]) -> str:
    """The run's numbers as tiles, and the same in sentences; first whether it came to its end."""
    manifest, ledger = run.manifest, ledger_of(chain)
    scores = run.results.scores if run.results else ()
    total, training = parameters_of(manifest)
    note = f"of {count(total)} ({percent(training / total)})" if total else ""
    boxes = [
        *score_tiles(scores, run.new),
        *ledger_tiles(ledger),
        *work_tiles(count(training), note, sum(manifest.seconds.values())),
    ]
    lines = [
        work_sentence(run),
        *score_sentences(scores, run.new),
        *forgetting_sentences(ledger),
        *warning_sentences(manifest),
        *proof_sentences(manifest),
    ]
    return banner(run) + tiles(boxes) + sentences(lines)


def _probing_share(run: RunRecord) -> float | None:
    rows = run.curves.get("probe/share_of_time")
    return rows[-1][1] if rows else None


def ledgers_html(chain: list[RunRecord]) -> str:
    """The ledger on test items, and folded the one on unseen combinations; nothing where only one run was scored."""
    if sum(run.results is not None for run in chain) < 2:
        return ""
    tints = tints_of(chain)
    first, unseen = ledger_of(chain), ledger_of(chain, "test_unseen")
    html = ledger_html(first, tints) if first else ""
    return html + (folded("on combinations never seen in training", ledger_html(unseen, tints)) if unseen else "")


def banner(run: RunRecord) -> str:
    """A line that cannot be overlooked where a run is not finished."""
    manifest = run.manifest
    gate = manifest.extra.get("gate") or {}
    if not gate.get("kept", True):
        words = (
            f"{gate['modality']} changed by {points(gate['change'] / 100)} points since its own phase, the gate allows"
        )
        return f'<div class="banner">Its curriculum stopped here: {text(words)} {gate["max_forgetting"]:g}.</div>'
    if manifest.status == "finished":
        return ""
    reason = f": {manifest.reason}" if manifest.reason else ""
    return f'<div class="banner">This run is <strong>{text(manifest.status)}</strong>{text(reason)}.</div>'
