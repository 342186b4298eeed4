"""`--multirun`: Hydra expands the sweep and launches each job (here, or on SLURM by the submitit launcher)."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from modalign.cli.arguments import TrainArguments
from modalign.cli.environment import prepare_environment
from modalign.cli.terminal import exit_with
from modalign.config.compose import check, offer_modalities
from modalign.config.places import conf_folder
from modalign.config.processes import check_processes, find_launch
from modalign.config.recipes import RecipeBook
from modalign.config.specs import Planner
from modalign.errors import ModalignError
from modalign.runs.interrupt import Interrupted
from modalign.runs.slurm import stoppable


def sweep(parsed: TrainArguments) -> int:
    """Run one training command for each combination of the swept values."""
    _check_launcher(parsed.overrides)
    offer_modalities(parsed.overrides, parsed.config_dir)
    searchpath = [f"hydra.searchpath=[file://{parsed.config_dir.resolve()}]"] if parsed.config_dir else []
    sys.argv = [sys.argv[0], "--multirun", *searchpath, *parsed.overrides]
    hydra.main(config_path=str(conf_folder()), config_name="config", version_base="1.3")(job)()
    return 0


def _check_launcher(overrides: Sequence[str]) -> None:
    """ModalignError where the submitit launcher is asked for and not installed; Hydra would tell it in ten lines."""
    asked = next((word for word in overrides if word.startswith("hydra/launcher=submitit")), None)
    if asked is None:
        return
    try:
        importlib.import_module("hydra_plugins.hydra_submitit_launcher")
    except ImportError:
        raise ModalignError(
            f"{asked} needs the package hydra-submitit-launcher: pip install 'modalign[slurm]'"
        ) from None


def job(config: DictConfig) -> int:
    """One job of a sweep."""
    prepare_environment()
    settings, plain = check(config)
    specs = Planner(settings, RecipeBook(settings)).plan()
    launch = find_launch(settings.trainer)
    if launch.to_start:
        raise ModalignError(
            f"trainer.devices={settings.trainer.devices}: the jobs of a sweep are processes of a launcher; "
            f"use the submitit launcher, or one device a job"
        )
    check_processes(settings, [spec for spec in specs if spec.requested], launch)
    overrides = list(HydraConfig.get().overrides.task)
    try:
        with stoppable(settings.trainer.requeue):
            from modalign.stages.curriculum_run import run_all

            return run_all(specs, settings, plain, ["train.py", *overrides], launch)
    except Interrupted as stop:
        exit_with(stop)  # as SystemExit, which neither Hydra nor submitit takes for the job's result
