"""Whether the settings fit the number of processes that run them: found before torch is imported."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Protocol

from modalign.config.schema import Settings, StageSettings, TrainerSettings
from modalign.errors import ModalignError
from modalign.runs.launch import Launch, read_launch

SINGLE, DATA_PARALLEL, SHARDED = "single", "ddp", "fsdp2"


def find_launch(trainer: TrainerSettings) -> Launch:
    """Which of how many processes this is."""
    devices = 1 if trainer.devices == "auto" and trainer.accelerator == "cpu" else trainer.devices
    return read_launch(os.environ, devices, trainer.num_nodes)


def engine_of(trainer: TrainerSettings, launch: Launch) -> str:
    """`single`, `ddp` or `fsdp2`; `auto` is the first for one process and the second for several."""
    if trainer.engine == "auto":
        return SINGLE if launch.world_size == 1 else DATA_PARALLEL
    return trainer.engine


class Sliced(Protocol):
    """What is known of a run that slices its samples."""

    @property
    def name(self) -> str:
        """The run's name."""

    @property
    def stage(self) -> str:
        """Its stage's name."""

    @property
    def stage_settings(self) -> StageSettings | None:
        """The stage's settings as this run has them, where they are its own."""


def slice_of(settings: Settings, run: Sliced) -> tuple[int, str]:
    """Samples in a slice of a run, and the setting that says so, in words."""
    common = settings.stages[run.stage].slice_size
    size = common if run.stage_settings is None else run.stage_settings.slice_size
    own = "" if size == common else f" for {run.name}, by what stages.{run.stage}.phases names"
    return size, f"stages.{run.stage}.slice_size={size}{own}"


def check_processes(settings: Settings, runs: Iterable[Sliced], launch: Launch) -> None:
    """ModalignError where the engine takes no several processes, or a slice of a run does not divide among them."""
    world = launch.world_size
    if world > 1 and settings.trainer.engine == SINGLE:
        raise ModalignError(
            f"trainer.engine=single, but {world} processes run this ({launch.by}): set trainer.engine=ddp or fsdp2"
        )
    for run in runs:
        size, setting = slice_of(settings, run)
        if size % world:
            fitting = [n for n in range(1, size + 1) if size % n == 0]
            below, above = max(n for n in fitting if n <= world), -(-size // world) * world
            raise ModalignError(
                f"{setting} does not divide among {world} processes ({launch.by}): start "
                f"{below} processes, or set it to {above}, which is another run"
            )
