"""Whether the settings fit the number of processes that run them: found before torch is imported."""

from __future__ import annotations

import os
from collections.abc import Iterable

from modalign.config.schema import Settings, TrainerSettings
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


def check_processes(settings: Settings, stages: Iterable[str], launch: Launch) -> None:
    """ModalignError where the engine takes no several processes, or a slice of a stage does not divide among them."""
    world = launch.world_size
    if world > 1 and settings.trainer.engine == SINGLE:
        raise ModalignError(
            f"trainer.engine=single, but {world} processes run this ({launch.by}): set trainer.engine=ddp or fsdp2"
        )
    for stage in dict.fromkeys(stages):
        size = settings.stages[stage].slice_size
        if size % world:
            fitting = [n for n in range(1, size + 1) if size % n == 0]
            below, above = max(n for n in fitting if n <= world), -(-size // world) * world
            raise ModalignError(
                f"stages.{stage}.slice_size={size} does not divide among {world} processes ({launch.by}): start "
                f"{below} processes, or set it to {above}, which is another run"
            )
