"""The sections that show what came of a run: scores beside chance, the ledger as a picture, router and experts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from modalign.evaluation.ledger import Ledger
from modalign.evaluation.ledger_table import NOTABLE_FALL, summary_line
from modalign.evaluation.report.charts import Bar, interval_bars, line_chart, stacked_bars
from modalign.evaluation.report.page import folded, table, text
from modalign.evaluation.report.phrases import (
    METRIC_NAMES,
    SPLIT_NAMES,
    TASK_NAMES,
    count,
    percent,
    points,
    score_interval,
    score_value,
    sentence,
)
from modalign.evaluation.scores import Results, Score

HEADLINES = ("attribute_accuracy", "exact_match")


def headline_scores(scores: Sequence[Score], task: str) -> list[Score]:
    """A task's scores on its first metric that is a share: what charts and sentences are about."""
    for metric in HEADLINES:
        found = [score for score in scores if score.task == task and score.metric == metric]
        if found:
            return found
    return []


def scores_html(scores: Sequence[Score], tints: Mapping[str, int]) -> str:
    """Each task's bars with intervals and chance, its details by attribute, and the table of all its numbers."""
    parts = []
    for task in dict.fromkeys(score.task for score in scores):
        members = [score for score in scores if score.task == task]
        bars = headline_scores(members, task)
        metric = f": {METRIC_NAMES[bars[0].metric]}" if bars else ""
        parts.append(f"<h3>{text(sentence(TASK_NAMES.get(task, task)))}{metric}</h3>")
        parts.append(_task_bars(bars, tints))
        details = _details(bars)
        open_count = sum(len(score.detail) for score in bars)
        parts.append(details if open_count <= 12 else folded("by attribute", details))
        parts.append(folded("all numbers", _numbers(members)))
    return "".join(parts)


def ledger_html(ledger: Ledger, tints: Mapping[str, int]) -> str:
    """The ledger as a heat map with its numbers, the same as curves over the phases, and its summary in words."""
    metric, split = METRIC_NAMES.get(ledger.metric, ledger.metric), SPLIT_NAMES.get(ledger.split, ledger.split)
    intro = (
        f"<p>{text(sentence(metric))} of captions ({text(split)}), percent. Framed: the phase that added the "
        "modality. Small: the change since then, in percentage points. In brackets: before its first step.</p>"
    )
    curves = {
        name: [(float(p), 100 * v) for p in range(len(ledger.phases)) if (v := ledger.value(p, name)) is not None]
        for name in ledger.modalities
    }
    chart = ""
    if len(ledger.phases) > 1:
        ticks = {float(p): _tick(ledger, p) for p in range(len(ledger.phases))}
        colours = {name: tints.get(name, i) for i, name in enumerate(ledger.modalities)}
        chart = line_chart(
            curves, colours, "after phase", "percent",
            width=760, height=280, y_range=_percents(curves), x_ticks=ticks, marks=True,
        )  # fmt: skip
    summary = sentence(summary_line(ledger)).replace(" -", " \u2212")
    return f"{intro}{_heat(ledger)}<p>{text(summary)}.</p>{chart}"


def router_html(results: Results) -> str:
    """The router's mean weights by modality as bars, and how far the experts are apart."""
    parts = []
    if results.router:
        num_experts = max(len(row) for row in results.router.values())
        names = [f"expert {k + 1}" for k in range(num_experts)]
        parts.append("<p>The mean weight that the router gives each expert, by modality.</p>")
        parts.append(stacked_bars(results.router, names))
    if len(results.expert_distance) > 1:
        parts.append("<h3>Distance between experts</h3>")
        parts.append("<p>Relative to the size of their weights: 0 means that two experts are still copies.</p>")
        parts.append(_distances(results.expert_distance))
    return "".join(parts)


def _task_bars(scores: Sequence[Score], tints: Mapping[str, int]) -> str:
    """A row for each modality; the splits after the first are the paler bars in it."""
    splits = list(dict.fromkeys(score.split for score in scores))
    rows: dict[str, list[Bar]] = {}
    for s in scores:
        faint = s.split != splits[0]
        rows.setdefault(s.modality, []).append(Bar(s.value, s.low, s.high, s.chance, tints.get(s.modality, 8), faint))
    names = [SPLIT_NAMES.get(split, split) for split in splits]
    words = f"solid: {names[0]}; pale: {', '.join(names[1:])}; " if len(names) > 1 else ""
    note = f'<p class="soft">{text(sentence(words))}percent right, with 95 % interval; dashed line: chance</p>'
    return interval_bars(rows) + (note if rows else "")


def _details(scores: Sequence[Score]) -> str:
    """Attributes as cells, a row for each modality and split."""
    rows = []
    for score in scores:
        cells = "".join(
            f'<td style="--fill:{part.value:.3f}"><small>{text(name)}</small>{100 * part.value:.1f}'
            f"<small>{'' if part.chance is None else f'chance {100 * part.chance:.0f}'}</small></td>"
            for name, part in score.detail.items()
        )
        label = f"{text(score.modality)}<br><small>{text(SPLIT_NAMES.get(score.split, score.split))}</small>"
        rows.append(f"<tr><th>{label}</th>{cells}</tr>" if cells else "")
    return f'<div class="scroll"><table class="heat">{"".join(rows)}</table></div>' if any(rows) else ""


def _numbers(scores: Sequence[Score]) -> str:
    rows = [
        [
            text(s.modality),
            text(SPLIT_NAMES.get(s.split, s.split)),
            text(METRIC_NAMES.get(s.metric, s.metric)),
            score_value(s),
            score_interval(s),
            "" if s.chance is None else percent(s.chance),
            count(s.n),
        ]
        for s in scores
    ]
    notes = {s.note for s in scores if s.note}
    header = ("modality", "split", "metric", "value", "95 % interval", "chance", "items")
    return table(header, rows, numbers=(3, 4, 5, 6)) + "".join(f'<p class="soft">{text(note)}</p>' for note in notes)


def _heat(ledger: Ledger) -> str:
    with_text = any(loss is not None for loss in ledger.text_loss)
    head = "".join(f"<th>{text(name)}</th>" for name in ("after phase", *ledger.modalities))
    head += "<th>text loss</th>" if with_text else ""
    rows = []
    for phase, name in enumerate(ledger.phases):
        cells = "".join(_heat_cell(ledger, phase, modality) for modality in ledger.modalities)
        last = _text_cell(ledger, phase) if with_text else ""
        rows.append(f"<tr><th>{text(name)}</th>{cells}{last}</tr>")
    body = "".join(rows)
    return f'<div class="scroll"><table class="heat"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _heat_cell(ledger: Ledger, phase: int, modality: str) -> str:
    score = ledger.scores[phase][ledger.modalities.index(modality)]
    if score is None:
        soon = ledger.own_phase[modality] == phase + 1 and modality in ledger.beforehand
        return f'<td class="none">{f"({100 * ledger.beforehand[modality].value:.1f})" if soon else "·"}</td>'
    # Squared, so that what is near the top still differs to the eye.
    chance = score.chance or 0.0
    fill = max(0.0, (score.value - chance) / ((1 - chance) or 1)) ** 2
    own = ' class="own"' if ledger.own_phase[modality] == phase else ""
    change = ledger.change(phase, modality)
    small = ""
    if change is not None:
        tone = "bad" if change < -NOTABLE_FALL else "good" if change > NOTABLE_FALL else "soft"
        small = f'<small class="{tone}">{points(change)}</small>'
    return f'<td{own} style="--fill:{fill:.3f}">{100 * score.value:.1f}{small}</td>'


def _text_cell(ledger: Ledger, phase: int) -> str:
    loss = ledger.text_loss[phase]
    if loss is None:
        return '<td class="none">·</td>'
    change = ledger.text_loss_change(phase)
    if change is None:
        return f'<td class="plain">{loss:.4f}</td>'
    tone = "bad" if change > NOTABLE_FALL else "soft"
    words = "unchanged" if change == 0 else f"{points(change)} %"
    return f'<td class="plain">{loss:.4f}<small class="{tone}">{words}</small></td>'


def _distances(rows: Sequence[Sequence[float]]) -> str:
    most = max(max(row) for row in rows) or 1.0
    head = "".join(f"<th>expert {k + 1}</th>" for k in range(len(rows)))
    body = "".join(
        f"<tr><th>expert {i + 1}</th>"
        + "".join(f'<td style="--fill:{value / most:.3f}">{value:.3f}</td>' for value in row)
        + "</tr>"
        for i, row in enumerate(rows)
    )
    return f'<div class="scroll"><table class="heat"><tr><th></th>{head}</tr>{body}</table></div>'


def _percents(curves: Mapping[str, Sequence[tuple[float, float]]]) -> tuple[float, float]:
    low = min(value for curve in curves.values() for _, value in curve)
    return max(0.0, 10 * ((low - 5) // 10)), 100.5


def _tick(ledger: Ledger, phase: int) -> str:
    """A phase in few letters: what it added, or else its name."""
    new = [name for name, own in ledger.own_phase.items() if own == phase]
    name = f"+ {', '.join(new)}" if new else ledger.phases[phase]
    most = max(8, 100 // len(ledger.phases))
    return name if len(name) <= most else f"{name[: most - 1]}…"
