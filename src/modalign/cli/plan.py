"""`modalign plan …`: the runs that a training command would make, before anything is made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from modalign.cli.parser import VerbParser, read_settings
from modalign.cli.terminal import count, print_table, say
from modalign.config.places import shipped_runs
from modalign.config.recipes import RecipeBook
from modalign.config.specs import Planner, RunSpec
from modalign.runs.finished import locate

SUMMARY = """Print the runs that `python train.py` with the same settings would make or reuse: order, steps, the share
of each recipe in the mixture, and what is there already. Nothing is made."""


def run(arguments: Sequence[str]) -> int:
    """Print one row a run."""
    examples = ["modalign plan stage=align modality=audio", "modalign plan curriculum=onellm"]
    parser = VerbParser("plan", SUMMARY, examples)
    parser.add_settings()
    options = parser.parse(arguments)
    settings, _ = read_settings(options)
    specs = Planner(settings, RecipeBook(settings)).plan()
    rows = []
    for number, spec in enumerate(specs, 1):
        folder = locate(Path(settings.paths.runs), spec, settings.fresh, shipped_runs())
        stage = spec.stage_settings or settings.stages[spec.stage]
        batch = stage.slice_size * stage.slices_per_step
        asked = "asked for" if spec.requested else "stood on"
        state = folder.status() or "missing"
        numbers = [count(spec.steps), count(spec.steps * batch)]
        rows.append([str(number), folder.name, asked, state, *numbers, mixture(spec)])
    print_table(("", "run", "", "state", "steps", "samples", "mixture"), rows, numbers=(4, 5))
    open_runs = sum(row[3] != "finished" for row in rows)
    say(f"{len(rows)} runs, {open_runs} to be made below {settings.paths.runs}" if open_runs else "all are finished")
    return 0


def mixture(spec: RunSpec) -> str:
    """Each recipe's share of the samples, largest first."""
    shares = sorted(spec.shares.items(), key=lambda entry: -entry[1])
    return ", ".join(f"{name.removeprefix('world_')} {float(share):.0%}" for name, share in shares)
