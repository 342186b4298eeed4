"""`--multirun`: Hydra expands the sweep and launches each job (here, or on SLURM by the submitit launcher)."""

from __future__ import annotations

import importlib
import itertools
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from modalign.cli.arguments import TrainArguments
from modalign.cli.environment import nothing_collected, prepare_environment
from modalign.cli.terminal import exit_with, warn
from modalign.config.compose import (
    check,
    compose_settings,
    first_line,
    modality_set,
    offer_modalities,
    options,
    with_pluses,
)
from modalign.config.permissions import check_permissions
from modalign.config.places import conf_folder
from modalign.config.processes import check_processes, find_launch
from modalign.config.recipes import RecipeBook
from modalign.config.schema import Settings
from modalign.config.search_path import own_files_first
from modalign.config.specs import Planner, RunSpec
from modalign.errors import ModalignError, ToldElsewhere
from modalign.runs.interrupt import Interrupted
from modalign.runs.launch import Launch
from modalign.runs.slurm import stoppable

OURS = "modalign"


def sweep(parsed: TrainArguments) -> int:
    """Run one training command for each combination of the swept values, after all of them were checked.

    A job that fails is told, and the others go on; the exit code is then that of the first that failed.
    """
    _check_launcher(parsed.overrides)
    commands = combinations(parsed.overrides, parsed.config_dir)
    _check_commands(commands, parsed)
    overrides = with_pluses(parsed.overrides, parsed.config_dir, commands[0] if commands else None)
    offer_modalities(commands[0] if commands else overrides, parsed.config_dir)
    sys.argv = [sys.argv[0], "--multirun", *overrides]
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors reach us as they are, not as Hydra's own report of them
    failed: list[ModalignError] = []
    here = os.getpid()

    def told(config: DictConfig) -> int:
        _say_notices_once()
        try:
            return job(config, parsed.config_dir)
        except ModalignError as error:
            if os.getpid() != here:
                raise  # Hydra hands it on to the process that waits for this job
            failed.append(error)
            if not isinstance(error, ToldElsewhere):
                warn(f"error: {error}")
            return error.exit_code

    try:
        with own_files_first(parsed.config_dir):
            hydra.main(config_path=str(conf_folder()), config_name="config", version_base="1.3")(told)()
    except (HydraException, OmegaConfBaseException) as error:
        raise ModalignError(f"--multirun: {first_line(error)}") from None
    return failed[0].exit_code if failed else 0


def combinations(overrides: Sequence[str], config_dir: Path | None = None) -> list[tuple[str, ...]]:
    """The overrides of each job, as Hydra's own sweeper expands them; none where another sweeper chooses them."""
    if any(word.startswith("hydra/sweeper=") for word in overrides):
        return []
    values: dict[str, list[str]] = {}
    for word in overrides:
        try:
            key, found = _values(word, config_dir)
        except HydraException:
            return [tuple(overrides)]  # composing them tells which cannot be read
        values[key] = found
    return list(itertools.product(*values.values()))


def _values(word: str, config_dir: Path | None) -> tuple[str, list[str]]:
    """What an override sets, and the override with each of the values that are swept over."""
    parsed = OverridesParser.create().parse_override(word)
    key = parsed.get_key_element()
    if parsed.is_hydra_override() or not parsed.is_sweep_override():
        return key, [word]
    chosen = parsed.value()
    if isinstance(chosen, Glob):
        return key, [f"{key}={name}" for name in chosen.filter(options(parsed.key_or_group, config_dir))]
    if not parsed.is_discrete_sweep():
        raise ModalignError(f"'{word}': give the values one by one, {key}=1,2,3, or as {key}=range(1,4)")
    return key, [f"{key}={value}" for value in parsed.sweep_string_iterator()]


def _check_commands(commands: Sequence[tuple[str, ...]], parsed: TrainArguments) -> None:
    """ModalignError for the first command that could not be run; what is to be known of the others' data is told."""
    launched = any(word.startswith("hydra/launcher=") for word in parsed.overrides)
    notes: dict[str, None] = {}
    with nothing_collected():
        for words in commands:
            settings, _ = compose_settings(words, parsed.config_dir)
            book = RecipeBook(settings)
            specs = Planner(settings, book).plan()
            notes |= dict.fromkeys(check_permissions(settings, book, specs))
            if not launched:
                _checked_launch(settings, specs)
    sets = {modality_set(words, parsed.config_dir) for words in commands}
    if len(sets) > 1:
        raise ModalignError(
            f"--multirun: the models have different sets of modalities ({', '.join(sorted(sets))}): one sweep for each"
        )
    for note in notes:
        warn(f"warning: {note}")


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


def _checked_launch(settings: Settings, specs: Sequence[RunSpec]) -> Launch:
    """How this process was started; ModalignError where the job needs it otherwise."""
    launch = find_launch(settings.trainer)
    if launch.to_start:
        raise ModalignError(
            f"trainer.devices={settings.trainer.devices}: the jobs of a sweep are processes of a launcher; "
            f"use the submitit launcher, or one device a job"
        )
    check_processes(settings, [spec for spec in specs if spec.requested], launch)
    return launch


def _say_notices_once() -> None:
    """Keep ours out of what Hydra writes to the terminal: they have their own way there. Its file has them, too."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
            handler.addFilter(_is_of_others)


def _is_of_others(record: logging.LogRecord) -> bool:
    return record.name.partition(".")[0] != OURS


def job(config: DictConfig, config_dir: Path | None = None) -> int:
    """One job of a sweep; `config_dir` belongs to the command that its run is told by."""
    prepare_environment()
    settings, plain = check(config)
    specs = Planner(settings, RecipeBook(settings)).plan()
    launch = _checked_launch(settings, specs)
    beside = ["--config-dir", str(config_dir)] if config_dir else []
    command = ["train.py", *beside, *HydraConfig.get().overrides.task]
    try:
        with stoppable(settings.trainer.requeue):
            from modalign.stages.curriculum_run import run_all

            return run_all(specs, settings, plain, command, launch)
    except Interrupted as stop:
        exit_with(stop)  # as SystemExit, which neither Hydra nor submitit takes for the job's result
