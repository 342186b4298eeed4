"""The plan of a command: what is foreseen of each run to be made, on which assumptions, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from modalign.config.plan_settings import AssumedTokens, HardwareSettings
from modalign.config.planning import PlanningBook
from modalign.config.processes import DATA_PARALLEL, SINGLE, slice_of
from modalign.config.schema import Precision, Settings, TrainerSettings
from modalign.config.specs import RunSpec
from modalign.errors import ModalignError
from modalign.stages.forecast.forecast import Forecaster, PhaseForecast
from modalign.stages.forecast.memory import Engine
from modalign.stages.forecast.missing import missing


@dataclass(frozen=True)
class Plan:
    """Everything that `modalign plan` says of the runs to be made."""

    hardware: HardwareSettings
    precision: Precision
    engine: Engine
    assumed: AssumedTokens
    phases: list[PhaseForecast]
    missing: list[str]

    @property
    def peak_tflops(self) -> float:
        """One device's peak at the plan's precision."""
        return self.hardware.peak_tflops[self.precision]

    def to_dict(self) -> dict[str, Any]:
        """Plain values: bytes, FLOPs, hours, counts."""
        return {
            "hardware": self.hardware.model_dump() | {"devices": self.engine.world_size},
            "precision": self.precision,
            "engine": asdict(self.engine),
            "assumed_tokens": self.assumed.model_dump(),
            "phases": [asdict(phase) for phase in self.phases],
            "total": {
                "flops": sum(phase.total_flops for phase in self.phases),
                "hours": sum(phase.hours for phase in self.phases),
                "samples": sum(phase.samples for phase in self.phases),
                "peak_bytes": max((phase.memory.peak for phase in self.phases), default=0),
            },
            "missing": self.missing,
        }


def make_plan(
    settings: Settings, book: PlanningBook, specs: Sequence[RunSpec], runs: Mapping[str, Path], words: Sequence[str]
) -> Plan:
    """Foresee the runs `specs`; `runs` holds the folder of every run by identity, also of those that are finished.

    `words` are the settings as they were given: what is missing is named with commands of the same ones.
    """
    engine = engine_of(settings.trainer)
    for spec in specs:
        size, setting = slice_of(settings, spec)
        if size % engine.world_size:
            raise ModalignError(
                f"{setting} does not divide among {engine.world_size} processes "
                f"(trainer.devices, trainer.num_nodes): set it to a multiple"
            )
    forecaster = Forecaster(settings, book, engine, runs)
    phases = [forecaster(spec) for spec in specs]
    return Plan(
        settings.plan.hardware, settings.trainer.precision, engine, settings.plan.assume, phases,
        missing(settings, book, specs, words),
    )  # fmt: skip


def engine_of(trainer: TrainerSettings) -> Engine:
    """The engine that the trainer's settings ask for; `auto` devices count as one."""
    devices = trainer.devices if isinstance(trainer.devices, int) else 1
    world_size = devices * trainer.num_nodes
    name = trainer.engine if trainer.engine != "auto" else SINGLE if world_size == 1 else DATA_PARALLEL
    return Engine(name, world_size, trainer.activation_checkpointing)
