"""The shipped backbones are the ones that the default settings ask for, and their training begins as it did."""

import csv
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from modalign.config.compose import compose_settings
from modalign.config.places import shipped_runs
from modalign.config.recipes import RecipeBook
from modalign.config.specs import Planner
from modalign.runs.checks import finished_run

ROOT = Path(__file__).parents[1]
STOPPED = 75


def planned_backbones():
    settings, _ = compose_settings([])
    return [spec for spec in Planner(settings, RecipeBook(settings)).plan() if spec.stage.startswith("pretrain")]


def losses(folder):
    """The training losses that a run logged, by step."""
    with (folder / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["name"] == "train/loss" and row["value"]]
    return {int(row["step"]): float(row["value"]) for row in rows}


def test_the_shipped_backbones_are_those_of_the_default_settings():
    for spec in planned_backbones():
        assert finished_run(shipped_runs() / spec.name, spec.identity) is not None, (
            f"{spec.name} is not shipped: make it with `make backbones`"
        )


def test_the_shipped_backbones_are_small():
    sizes = [file.stat().st_size for file in shipped_runs().rglob("*") if file.is_file()]
    assert 0 < sum(sizes) < 12e6


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("number", "steps"), [(0, 300), (1, 200)], ids=["text", "contrast"])
def test_the_documented_training_begins_as_that_of_the_shipped_backbones(number, steps, tmp_path):
    """Whole runs take a quarter of an hour (`make backbones`); one that begins alike has the same data and settings."""
    spec = planned_backbones()[number]
    shipped = losses(shipped_runs() / spec.name)
    again = begun(spec.stage, steps, min(shipped), tmp_path)
    assert {step for step in shipped if step <= steps} <= set(again)
    # Another processor rounds differently and training amplifies it: what is learned agrees, not each bit.
    assert [again[step] for step in sorted(again)] == pytest.approx([shipped[step] for step in sorted(again)], rel=0.1)


def begun(stage, steps, every, folder):
    """Means of the training loss over `every` steps, of a run of the stage that was stopped after so many steps."""
    command = [sys.executable, "train.py", f"stage={stage}", "fresh=true", f"trainer.log_every={every}"]
    command += ["trainer.progress=false", f"paths.runs={folder / 'runs'}", f"paths.data={folder / 'data'}"]
    with subprocess.Popen(command, cwd=ROOT) as process:
        while process.poll() is None and max(found := losses_below(folder / "runs"), default=0) < steps:
            time.sleep(1)
        process.send_signal(signal.SIGTERM)
    assert process.returncode == STOPPED, found
    return losses_below(folder / "runs")


def losses_below(runs):
    return {step: loss for run in runs.glob("*/metrics.csv") for step, loss in losses(run.parent).items()}
