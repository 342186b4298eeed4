"""A study as a picture: each arm's scores and its difference to the baseline, or scores over a number (curves)."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modalign.evaluation.study_result import ArmResult, StudyResult
from modalign.runs.files import write_atomic

ROW_IN = 0.36
COLOURS = ("#2f6db5", "#d9822b", "#3a9a5b", "#a3479b", "#b5382f", "#6b7280", "#8a6d1f", "#1f8a8a")


def draw_study(result: StudyResult, curves: Mapping[str, Any] | None, file: Path) -> None:
    """Write the picture as SVG; `curves` (axis, modality, lines) are drawn in place of rows where there are any."""
    import matplotlib

    matplotlib.use("Agg")
    with matplotlib.rc_context({"svg.hashsalt": "modalign", "font.size": 9, "svg.fonttype": "none"}):
        figure = _curves(result, curves) if curves else _rows(result)
        drawn = io.BytesIO()
        figure.savefig(drawn, format="svg", bbox_inches="tight", metadata={"Date": None})
    write_atomic(file, drawn.getvalue())


def _rows(result: StudyResult) -> Any:
    from matplotlib.figure import Figure

    arms = result.arms[::-1]
    figure = Figure(figsize=(9, 1.3 + ROW_IN * len(arms)))
    scores, change = figure.subplots(1, 2, sharey=True)
    labels = list(dict.fromkeys(label for arm in result.arms for label in arm.scores))
    for colour, label in zip(COLOURS * len(labels), labels, strict=False):
        known = [(row, arm.scores[label]) for row, arm in enumerate(arms) if label in arm.scores]
        for row, found in known:
            scores.plot(
                [100 * v for v in found.by_seed.values()], [row] * len(found.by_seed), ".", color=colour, alpha=0.4
            )
        scores.plot([100 * f.value for _, f in known], [row for row, _ in known], "o", color=colour, label=label)
    scores.set_xlabel("percent (small: single seeds)")
    scores.set_yticks(range(len(arms)), [arm.name for arm in arms])
    scores.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, frameon=False)
    change.axvline(0, color="#999999", linewidth=1)
    for row, arm in enumerate(arms):
        if arm.difference is not None and arm.name != result.baseline:
            found = arm.difference
            change.plot([100 * found.low, 100 * found.high], [row, row], color="#222222", linewidth=1.5)
            change.plot([100 * found.value], [row], "o", color="#222222")
    change.set_xlabel(f"points against {result.baseline}, 95 %")
    for axes in (scores, change):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", alpha=0.3)
    return figure


def _curves(result: StudyResult, curves: Mapping[str, Any]) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6))
    axes = figure.subplots()
    by_name: dict[str, ArmResult] = {arm.name: arm for arm in result.arms}
    label = curves["modality"]
    for colour, (name, line) in zip(COLOURS * len(curves["lines"]), curves["lines"].items(), strict=False):
        known = [
            (float(x), by_name[arm].scores[label])
            for x, arm in sorted(line["points"].items())
            if arm in by_name and label in by_name[arm].scores
        ]
        places = [x for x, _ in known]
        axes.fill_between(
            places, [100 * f.low for _, f in known], [100 * f.high for _, f in known], color=colour, alpha=0.15
        )
        axes.plot(places, [100 * f.value for _, f in known], "o-", color=colour, label=name)
    axes.set_xscale("log")
    axes.set_xlabel(curves["axis"])
    axes.set_ylabel(f"{label}, percent")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    return figure
