"""Draws docs/images/pipeline.svg, the figure of the README: what happens to a file, and the folder of each box.

python docs/images/draw_pipeline.py
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("svg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

INK, SOFT, LINE = "#1f2933", "#52606d", "#9aa5b1"
TRAINS, FROZEN, PLAIN = "#fde8c8", "#d6e6f5", "#eef1f4"
EDGES = {TRAINS: "#d98e1f", FROZEN: "#4a86b8", PLAIN: "#9aa5b1"}


@dataclass(frozen=True)
class Box:
    """One box of the figure: its words, the folder or file that holds it (below src/modalign/), and its colour."""

    title: str
    folder: str
    note: str
    fill: str
    width: float


SENSORS = ("image", "video", "point cloud", "audio", "depth map", "normal map", "inertial sensor", "fMRI", "yours")
PIPELINE = (
    Box("decoder", "data/decoders", "JPEG, H.264, FLAC,\nPNG, arrays", PLAIN, 2.0),
    Box("tokenizer", "models/tokenizers", "one for each kind\nof signal; trains", TRAINS, 2.0),
    Box("encoder", "models/encoders", "one for all,\nfrozen", FROZEN, 2.0),
    Box("projector", "models/projectors", "experts and a\nrouter; trains", TRAINS, 2.0),
    Box("fusion", "models/fusion", "soft tokens in\nfront of the text", PLAIN, 2.0),
    Box("language model", "models/language_model.py", "frozen in align,\ntrains in instruct", FROZEN, 2.55),
)
FLOWS = ("tensor", "tokens", "features", "soft\ntokens", "")
ROOMS = (
    Box("world/", "world", "the small world of\nthe demonstration", PLAIN, 2.0),
    Box("data/", "data", "recipes, shards,\norder of samples", PLAIN, 2.0),
    Box("curriculum/", "curriculum", "phases, replay,\nschedule", PLAIN, 2.0),
    Box("stages/", "stages", "align, instruct,\npretraining", PLAIN, 2.0),
    Box("runs/", "runs", "manifest, check-\npoints, resume", PLAIN, 2.0),
    Box("evaluation/", "evaluation", "scores, forgetting\nledger, report", PLAIN, 2.55),
)
TOP, BOTTOM, HEIGHT = 3.3, 0.35, 1.4
GAP, LEFT, ARROW_LABEL = 0.86, 2.1, 0.14


def main() -> None:
    """Write the figure to --out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("pipeline.svg"))
    draw(parser.parse_args().out)


def draw(path: Path) -> None:
    """Draw the figure into `path`; equal input gives equal bytes."""
    plt.rcParams.update({"font.family": "DejaVu Sans", "svg.hashsalt": "modalign"})
    figure, axes = plt.subplots(figsize=(19, 5.0))
    axes.set_xlim(0, 21)
    axes.set_ylim(0, 5.2)
    axes.axis("off")
    right = _pipeline(axes)
    _answer(axes, right)
    _rooms(axes)
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight", facecolor="white")
    plt.close(figure)


def _pipeline(axes: Axes) -> float:
    """The boxes that a sample passes, left to right; returns where the last one ends."""
    for number, sensor in enumerate(SENSORS):
        y = TOP + 1.62 - number * 0.39
        own = number == len(SENSORS) - 1
        text = f"{sensor}: one YAML" if own else sensor
        axes.text(
            1.45,
            y,
            text,
            ha="right",
            va="center",
            fontsize=11.5,
            color=SOFT if own else INK,
            style="italic" if own else "normal",
        )
        _arrow(axes, (1.52, y), (LEFT - 0.03, TOP + (0.5 - number / 8) * 0.9), LINE)
    x = LEFT
    for number, box in enumerate(PIPELINE):
        _box(axes, box, x, TOP - HEIGHT / 2, HEIGHT)
        if number < len(FLOWS):
            start, end = x + box.width + 0.03, x + box.width + GAP - 0.03
            _arrow(axes, (start, TOP), (end, TOP), SOFT, wide=True)
            axes.text(
                (start + end) / 2, TOP + ARROW_LABEL, FLOWS[number], ha="center", va="bottom", fontsize=10, color=SOFT
            )
        x += box.width + GAP
    return x - GAP


def _answer(axes: Axes, x: float) -> None:
    """What comes out at the right."""
    _arrow(axes, (x + 0.03, TOP), (x + GAP - 0.03, TOP), SOFT, wide=True)
    axes.text(x + GAP + 0.05, TOP, '"one small\nred cube\nat the left"', ha="left", va="center", fontsize=12, color=INK,
              style="italic")  # fmt: skip


def _rooms(axes: Axes) -> None:
    """What stands around the model, in a row below it."""
    axes.text(LEFT - 0.18, BOTTOM + 0.5, "around it", ha="right", va="center", fontsize=11.5, color=SOFT)
    x = LEFT
    for box in ROOMS:
        _box(axes, box, x, BOTTOM, 1.1, below=False)
        x += box.width + GAP


def _box(axes: Axes, box: Box, x: float, y: float, height: float, below: bool = True) -> None:
    patch = FancyBboxPatch((x, y), box.width, height, boxstyle="round,pad=0,rounding_size=0.12", fc=box.fill,
                           ec=EDGES[box.fill], lw=1.4)  # fmt: skip
    axes.add_patch(patch)
    middle, top = x + box.width / 2, y + height - 0.29
    axes.text(middle, top, box.title, ha="center", va="center", fontsize=13, color=INK, weight="bold")
    axes.text(
        middle, (y + top) / 2 - 0.06, box.note, ha="center", va="center", fontsize=10, color=SOFT, linespacing=1.25
    )
    if below:
        name = {"family": "DejaVu Sans Mono", "fontsize": 9.5, "color": INK}
        axes.text(middle, y - 0.22, box.folder, ha="center", va="center", **name)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str, wide: bool = False) -> None:
    style = "-|>,head_length=5,head_width=3" if wide else "-"
    axes.add_patch(
        FancyArrowPatch(start, end, arrowstyle=style, color=colour, lw=1.6 if wide else 0.8, shrinkA=0, shrinkB=0)
    )


if __name__ == "__main__":
    main()
