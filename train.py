"""The training command: `python train.py stage=align modality=audio`. Checks everything before torch is imported."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from modalign.cli.arguments import TrainArguments
from modalign.cli.environment import nothing_collected, prepare_environment
from modalign.cli.terminal import exit_with, say, warn
from modalign.errors import ModalignError
from modalign.runs.slurm import Stop, stoppable


def main(arguments: Sequence[str]) -> int:
    """Run what the command line asks for; 0 when every run it names is finished."""
    parsed = TrainArguments.parse(arguments)
    if parsed.help:
        from modalign.cli.help import train_help

        say(train_help())
        return 0
    if parsed.multirun:
        from modalign.cli.multirun import sweep

        return sweep(parsed)
    with stoppable("trainer=slurm" in arguments) as stop:
        return train(parsed, arguments, stop)


def train(parsed: TrainArguments, arguments: Sequence[str], stop: Stop) -> int:
    """Check everything, answer for runs that are finished, and make the others."""
    with nothing_collected():
        from modalign.config.compose import compose_settings
        from modalign.config.permissions import check_permissions
        from modalign.config.recipes import RecipeBook
        from modalign.config.specs import Planner

        settings, plain = compose_settings(parsed.overrides, parsed.config_dir)
        stop.requeue = settings.trainer.requeue
        book = RecipeBook(settings)
        specs = Planner(settings, book).plan()

    from modalign.cli.launcher import own_command, started
    from modalign.config.places import shipped_runs
    from modalign.config.processes import check_processes, find_launch
    from modalign.evaluation.gate import refuse_if_stopped
    from modalign.runs.finished import answer_if_finished

    launch = find_launch(settings.trainer)
    gate, runs = settings.curriculum.gate.max_forgetting, Path(settings.paths.runs)
    refuse_if_stopped(gate, runs, settings.curriculum.name, specs, settings.fresh, launch.rank == 0)
    if (answer := answer_if_finished(runs, specs, settings.fresh, shipped_runs())) is not None:
        if launch.rank == 0:
            say(answer)
        return 0
    for note in check_permissions(settings, book, specs):
        if launch.rank == 0:
            warn(f"warning: {note}")
    check_processes(settings, [spec for spec in specs if spec.requested], launch)
    prepare_environment()
    command = own_command(Path(__file__), arguments)
    with started(launch, command):
        from modalign.stages.curriculum_run import run_all

        return run_all(specs, settings, plain, ["train.py", *arguments], launch)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ModalignError as error:
        exit_with(error)
