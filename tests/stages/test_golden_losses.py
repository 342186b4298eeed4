"""The losses of a tiny chain of runs, step by step, as they were when the plain computation made them.

Whatever makes a step faster must leave them where they are, to rounding. They were written by the code before norms,
gates and the loss of a frozen head were fused, and hold for the pinned versions of what renders, encodes and trains.
A change that means to move them deletes `golden_losses.json`, runs this test once, and says why.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

GOLDEN = Path(__file__).with_name("golden_losses.json")


def losses(run: Path) -> list[float]:
    """The training loss of every step that was logged."""
    with (run / "metrics.csv").open() as rows:
        return [float(row["value"]) for row in csv.DictReader(rows) if row["name"] == "train/loss"]


def test_every_step_of_a_tiny_chain_has_the_loss_that_it_always_had(tiny_runs):
    runs = {name: getattr(tiny_runs, name) for name in ("text", "contrast", "image", "video", "instruct")}
    found = {name: losses(run) for name, run in runs.items()}
    if not GOLDEN.exists():
        GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
        pytest.fail(f"{GOLDEN.name} was missing and is written now: look at it, commit it, and say why it moved")
    wanted = json.loads(GOLDEN.read_text())
    assert {name: len(steps) for name, steps in found.items()} == {name: len(steps) for name, steps in wanted.items()}
    assert all(len(steps) >= 4 for steps in wanted.values())
    for name, steps in wanted.items():
        assert found[name] == pytest.approx(steps, rel=2e-5), name
