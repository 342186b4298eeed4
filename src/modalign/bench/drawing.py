"""The bench's report as a picture: each ratio as a bar against its gate and its target."""

from __future__ import annotations

from pathlib import Path

from modalign.bench.run import Report, Verdict
from modalign.bench.table import facts, number
from modalign.errors import ModalignError

_COLOURS = {"target": "#2a7f4f", "gate": "#6aa84f", "below": "#c0504d"}
_NEUTRAL = "#8a8f98"
_MOST = 3.0  # times the gate: one bar that goes far beyond would leave no room to tell the others apart


def draw(path: Path, report: Report) -> None:
    """Write the picture (by its suffix: svg, png, pdf); bars are ratios over gates, so that 1 is a gate reached."""
    from matplotlib.figure import Figure

    rows = [verdict for verdict in reversed(report.verdicts) if verdict.bar is not None]
    if not rows:
        raise ModalignError(f"--picture {path}: none of the rows has a bar to be drawn against")
    figure = Figure(figsize=(9, 1.4 + 0.34 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, verdict in enumerate(rows):
        assert verdict.bar is not None
        value, low, high = (_reached(verdict, v) for v in _three(verdict))
        axes.barh(place, value, color=_COLOURS.get(verdict.word, _NEUTRAL), height=0.62)
        axes.plot([low, high], [place, place], color="black", linewidth=1)
        aim = _reached(verdict, verdict.bar.target)
        axes.plot([aim, aim], [place - 0.31, place + 0.31], color="black", linewidth=1.6)
        axes.text(max(value, low, high) + 0.03, place, number(verdict.result.ratio.value), va="center", fontsize=8)
    axes.axvline(1.0, color="black", linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(rows)), [verdict.name for verdict in rows], fontsize=8)
    axes.set_xlabel(
        "ratio over its gate (dashed line: the gate; stroke: the target; thin line: lowest to highest round; cut at 3)"
    )
    axes.set_title("\n".join(facts(report)[:2]), fontsize=7, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    try:
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    except (OSError, ValueError) as error:
        raise ModalignError(f"--picture {path}: {error}") from error


def _three(verdict: Verdict) -> tuple[float, float, float]:
    ratio = verdict.result.ratio
    return ratio.value, ratio.low, ratio.high


def _reached(verdict: Verdict, value: float) -> float:
    """How much of the gate, at most `_MOST`: the gate over the ratio where less is better."""
    assert verdict.bar is not None
    reached = verdict.bar.gate / max(value, 1e-9) if verdict.row.less else value / verdict.bar.gate
    return min(reached, _MOST)
