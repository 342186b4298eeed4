"""Scores, ledgers and losses of several runs in common charts: a colour is a run, the same in every one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from modalign.evaluation.report.charts import Bar, Curve, interval_bars, legend, line_chart, spans_decades
from modalign.evaluation.report.findings import headline_scores, ledger_html
from modalign.evaluation.report.page import folded, table, text
from modalign.evaluation.report.phrases import METRIC_NAMES, SPLIT_NAMES, TASK_NAMES, percent, points, sentence
from modalign.evaluation.report.source import RunRecord, ledger_of, tints_of
from modalign.evaluation.scores import Score

Runs = Mapping[str, RunRecord]


def colours_of(runs: Runs) -> dict[str, int]:
    """A colour number for each run."""
    return {name: i for i, name in enumerate(runs)}


def scores_beside_html(runs: Runs) -> str:
    """For each task and split a row of bars a modality, one bar a run, with intervals; below, the change in points."""
    measured = {name: run.results.scores for name, run in runs.items() if run.results}
    parts = []
    for task in dict.fromkeys(score.task for scores in measured.values() for score in scores):
        members = {name: headline_scores(scores, task) for name, scores in measured.items()}
        for split in dict.fromkeys(score.split for scores in members.values() for score in scores):
            parts.append(_task_html(task, split, _of_split(members, split), colours_of(runs)))
    return "".join(parts)


def ledgers_beside_html(chains: Mapping[str, Sequence[RunRecord]]) -> str:
    """How each modality fared over the phases of every run's lineage, then the ledgers themselves."""
    drawn = []
    for name, chain in chains.items():
        if sum(run.results is not None for run in chain) > 1 and (ledger := ledger_of(chain)) is not None:
            drawn.append((name, ledger, tints_of(chain)))
    # The ledger of a phase is a part of that of its child: only the longest of each lineage is shown.
    parents = {run.folder.resolve() for chain in chains.values() for run in chain[:-1]}
    shown = [one for one in drawn if chains[one[0]][-1].folder.resolve() not in parents] or drawn
    rows = []
    for name, ledger, _ in shown:
        worst, back, forward = ledger.worst_forgetting(), ledger.backward_transfer(), ledger.forward_transfer()
        told = f"{points(worst.change)} ({text(worst.modality)}, after {text(worst.phase)})" if worst else ""
        rows.append([text(name), told, *("" if v is None else points(v) for v in (back, forward))])
    header = ("run", "largest fall since own phase", "backward transfer", "forward transfer")
    summary = table(header, rows, numbers=(2, 3)) if rows else ""
    return summary + "".join(f"<h3>{text(name)}</h3>{ledger_html(ledger, tints)}" for name, ledger, tints in shown)


def losses_beside_html(runs: Runs) -> str:
    """A chart a modality, a curve a run; validation is dashed."""
    colours = colours_of(runs)
    names = {curve.removeprefix("train/loss").strip("/") for run in runs.values() for curve in run.curves
             if curve.startswith("train/loss")}  # fmt: skip
    order = tints_of(list(runs.values()))
    charts = []
    for modality in sorted(names - {""}, key=lambda name: order.get(name, 99)) or [""]:
        training = _curves(runs, f"train/loss/{modality}".rstrip("/"))
        validation = _curves(runs, f"val/loss/{modality}".rstrip("/"))
        log_y = spans_decades({**training, **{f"{name} ": curve for name, curve in validation.items()}})
        chart = line_chart(
            training,
            colours,
            "optimizer step",
            f"loss {modality}",
            dashed=validation,
            width=430,
            height=230,
            log_y=log_y,
        )
        charts.append(f"<figure><figcaption>{text(modality)}</figcaption>{chart}</figure>" if chart else "")
    note = '<p class="soft">Solid: training. Dashed: validation.</p>' if any(charts) else ""
    return note + f'<div class="charts">{"".join(charts)}</div>' if any(charts) else ""


def _task_html(task: str, split: str, members: Mapping[str, list[Score]], colours: Mapping[str, int]) -> str:
    modalities = list(dict.fromkeys(score.modality for scores in members.values() for score in scores))
    rows: dict[str, list[Bar]] = {}
    for modality in modalities:
        for name, scores in members.items():
            for s in scores:
                if s.modality == modality:
                    rows.setdefault(modality, []).append(Bar(s.value, s.low, s.high, s.chance, colours[name]))
    metric = METRIC_NAMES[next(s.metric for scores in members.values() for s in scores)]
    title = f"{sentence(TASK_NAMES.get(task, task))}, {SPLIT_NAMES.get(split, split)}: {metric}"
    shown = [name for name, scores in members.items() if scores]
    html = f"<h3>{text(title)}</h3>{legend(shown, colours)}{interval_bars(rows)}"
    if len(shown) < 2:
        return html
    both = {name: members[name] for name in shown}
    return html + folded(f"differences against {shown[0]}, in points", _differences(both, modalities))


def _differences(members: Mapping[str, list[Score]], modalities: Sequence[str]) -> str:
    """Each run's score minus the first run's; bold where the intervals do not touch."""
    first, *others = members
    base = {score.modality: score for score in members[first]}
    rows = []
    for modality in modalities:
        cells = [text(modality), percent(base[modality].value) if modality in base else ""]
        for name in others:
            score = next((s for s in members[name] if s.modality == modality), None)
            cells.append(_change(base.get(modality), score))
        rows.append(cells)
    note = '<p class="soft">Bold: the 95 % intervals do not touch.</p>'
    return table(("modality", first, *others), rows, numbers=range(1, len(members) + 1)) + note


def _change(base: Score | None, score: Score | None) -> str:
    if score is None or base is None or base.metric != score.metric:
        return "" if score is None else f"({percent(score.value)})"
    change = points(score.value - base.value)
    apart = score.high < base.low or base.high < score.low
    return f'<strong class="{"bad" if score.value < base.value else "good"}">{change}</strong>' if apart else change


def _of_split(members: Mapping[str, list[Score]], split: str) -> dict[str, list[Score]]:
    return {name: [score for score in scores if score.split == split] for name, scores in members.items()}


def _curves(runs: Runs, name: str) -> dict[str, Curve]:
    return {label: run.curves[name] for label, run in runs.items() if run.curves.get(name)}
