"""The shipped backbones are the ones that the default settings ask for, and the documented command makes them again."""

import csv

import pytest

from modalign.cli.main import main
from modalign.config.compose import compose_settings
from modalign.config.places import shipped_runs
from modalign.config.recipes import RecipeBook
from modalign.config.specs import Planner
from modalign.runs.checks import finished_run


def planned_backbones():
    settings, _ = compose_settings([])
    return [spec for spec in Planner(settings, RecipeBook(settings)).plan() if spec.stage.startswith("pretrain")]


def final_losses(folder):
    """The last logged training loss of a run."""
    with (folder / "metrics.csv").open() as file:
        return float([row for row in csv.DictReader(file) if row["name"] == "train/loss"][-1]["value"])


def test_the_shipped_backbones_are_those_of_the_default_settings():
    for spec in planned_backbones():
        assert finished_run(shipped_runs() / spec.name, spec.identity) is not None, (
            f"{spec.name} is not shipped: make it with `make backbones`"
        )


def test_the_shipped_backbones_are_small():
    sizes = [file.stat().st_size for file in shipped_runs().rglob("*") if file.is_file()]
    assert 0 < sum(sizes) < 12e6


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_the_documented_command_makes_the_shipped_backbones_again(tmp_path):
    assert main(["ship-backbones", "--out", str(tmp_path / "again"), f"paths.data={tmp_path / 'data'}"]) == 0
    for spec in planned_backbones():
        again, shipped = tmp_path / "again" / spec.name, shipped_runs() / spec.name
        assert finished_run(again, spec.identity) is not None
        # Another processor rounds differently and training amplifies it: what was learned agrees, not each bit.
        assert final_losses(again) == pytest.approx(final_losses(shipped), rel=0.5)
