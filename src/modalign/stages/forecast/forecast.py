"""Everything that is foreseen of a phase: parts, tokens, samples, arithmetic, memory, checkpoints, hours."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from modalign.config.build import build
from modalign.config.planning import PlanningBook
from modalign.config.schema import Settings, StageSettings
from modalign.config.specs import RunSpec
from modalign.curriculum.schedule import SliceSchedule
from modalign.data.manifest import MANIFEST_NAME, read_manifest
from modalign.models.freezing import FreezableModule, FreezePlan, keep_in_float32
from modalign.runs.checkpoint import MAX_FILE_BYTES
from modalign.stages.assemble import start
from modalign.stages.forecast.memory import (
    Engine,
    Memory,
    PartMemory,
    exchanged,
    optimizer_bytes,
    part_memory,
    peak_memory,
)
from modalign.stages.forecast.repeats import Memory as Measured
from modalign.stages.forecast.repeats import RepeatedLayer, repeated_layers
from modalign.stages.forecast.shadow import as_shapes, build_shadow
from modalign.stages.forecast.slice_cost import SliceCost, Tokens, slice_cost
from modalign.stages.forecast.slices import Slice, Slices
from modalign.stages.forecast.words import text_tokenizer_of
from modalign.stages.phase_parts import BEGINNING, parts_that_train, with_begun
from modalign.stages.sources import SourceBook

PATH = {"tokenizer", "positions", "encoder", "projector"}  # what of a modality's settings decides a cost


@dataclass(frozen=True)
class RecipeForecast:
    """A recipe's part in a phase; `flops_per_sample` by part and direction; `shards` None where there are none yet."""

    name: str
    modalities: tuple[str, ...]
    replayed: bool
    samples: int
    size: int | None
    text_tokens: float
    supervised_tokens: float
    words: str
    flops_per_sample: dict[str, dict[str, float]]
    flops: float
    shards: int | None
    shard_bytes: int | None


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint on disk: weights of the parts that train or begin, in how many files, and what training needs."""

    weights: int
    files: int
    state: int


@dataclass(frozen=True)
class PhaseForecast:
    """What is foreseen of one phase; `longest`: memory with every text as long as it may be.

    `kept` and `recomputed`: a process's activations without and with checkpointing, on the slice that needs most.
    """

    run: str
    stage: str
    new: tuple[str, ...]
    seen: tuple[str, ...]
    steps: int
    samples: int
    recipes: list[RecipeForecast]
    tokens: dict[str, Tokens]
    parts: list[PartMemory]
    flops: dict[str, dict[str, float]]
    total_flops: float
    memory: Memory
    longest: Memory
    kept: int
    recomputed: int
    checkpoint: Checkpoint
    hours: float


class Forecaster:
    """Foresees phases of one command; what equal slices and equal layers cost is worked out once in a process."""

    def __init__(self, settings: Settings, book: PlanningBook, engine: Engine, runs: Mapping[str, Path]) -> None:
        self.settings, self.book, self.engine, self.runs = settings, book, engine, runs
        self.sources = SourceBook(settings, book)

    def __call__(self, spec: RunSpec) -> PhaseForecast:
        """What is foreseen of a run."""
        return _Phase(self, spec).forecast()


# What was measured in this process, by all that decides it.
_COSTS: dict[str, SliceCost] = {}
_LAYERS: dict[str, Measured] = {}


class _Phase:
    """One phase being worked out."""

    def __init__(self, owner: Forecaster, spec: RunSpec) -> None:
        self.owner, self.spec, self.engine = owner, spec, owner.engine
        self.stage: StageSettings = spec.stage_settings or owner.settings.stages[spec.stage]
        self.tokenizer = text_tokenizer_of(owner.settings, spec, owner.runs)
        self.model = build_shadow(owner.settings, spec, self.tokenizer)
        self.plan = self._begun(parts_that_train(self.model, spec, owner.settings, owner.book))
        self.plan.apply(self.model)
        keep_in_float32(self.model)
        self.model.train()
        self.slices = Slices(owner.sources, self.tokenizer, owner.engine.world_size)

    def _begun(self, plan: FreezePlan) -> FreezePlan:
        """The plan with the frozen parts that no earlier run will hold, which this one keeps."""
        settings, above = self.owner.settings, self.spec.parent
        if self.stage.backbone is not None or not any(part.split(".")[0] in BEGINNING for part in plan.frozen):
            return plan
        inherited: dict[str, Tensor] = {}
        if above is not None and (above.stage_settings or settings.stages[above.stage]).template != "text":
            inherited = build_shadow(settings, above, self.tokenizer).state_dict()
        return with_begun(plan, self.model, start(self.model, settings, self.spec.new, inherited))

    def cost(self, slice_: Slice, recompute: bool) -> SliceCost:
        """A slice's cost in this phase, or that of an equal slice of an equal model."""
        settings, batch = self.owner.settings, slice_.batch
        others = {m for m in self.spec.modalities if m not in batch.media}
        parts = {m: settings.modalities[m].model_dump(include=PATH) for m in batch.media}
        built = (self.spec.num_experts, self.spec.adapters, settings.trainer.precision)
        sizes = json.dumps([settings.model.model_dump(), *built])
        key = json.dumps([
            sizes, parts, self.stage.module, recompute, str(batch.layout), str((batch.loss_weights > 0).tolist()),
            {m: [list(x.values.shape), x.variants] for m, x in batch.media.items()},
            [part for part in self.plan.trains if part.rpartition(".")[2] not in others],
        ])  # fmt: skip
        if key not in _COSTS:
            model, layers = self.shapes
            measured = _LAYERS.setdefault(sizes, {})
            precision = settings.trainer.precision
            _COSTS[key] = slice_cost(model, self.objective, slice_, layers, measured, precision, recompute)
        return replace(_COSTS[key], words=slice_.words)

    @cached_property
    def shapes(self) -> tuple[FreezableModule, list[RepeatedLayer]]:
        """The model with shapes that can run, put in when they are first needed, and its layers that are alike."""
        as_shapes(self.model)
        return self.model, repeated_layers(self.model)

    @cached_property
    def exchange(self) -> int:
        """Bytes that the engine needs beside what a process holds of its own."""
        return exchanged(self.model, self.engine)

    @cached_property
    def objective(self) -> Any:
        """The terms that the stage minimises."""
        module = build(
            self.stage.module, f"stages.{self.spec.stage}.module", model=self.model, plan=self.plan,
            optimizer=self.stage.optimizer, total_steps=self.spec.steps, scales={}, max_bad_share=1.0,
        )  # fmt: skip
        return module.objective

    def forecast(self) -> PhaseForecast:
        """All of it."""
        owner, spec, stage = self.owner, self.spec, self.stage
        schedule = SliceSchedule(spec.shares, owner.settings.seed)
        counts = {n: c for n, c in schedule.counts(spec.steps * stage.slices_per_step).items() if c}
        slices = {name: self.slices.first(name, stage) for name in counts}
        costs = {name: self.cost(slice_, self.engine.recompute) for name, slice_ in slices.items()}
        state = optimizer_bytes(self.model, self.plan, stage.optimizer)
        bits = owner.settings.model.language_model.get("bits")
        parts = part_memory(self.model, self.plan, self.engine, state, bits)
        heaviest = max(costs, key=lambda name: costs[name].activations_peak)
        other = self.cost(slices[heaviest], not self.engine.recompute).activations_peak
        own = costs[heaviest].activations_peak
        longest = self._longest(heaviest, costs[heaviest])
        flops = self._flops(counts, costs)
        total = sum(count for directions in flops.values() for count in directions.values())
        return PhaseForecast(
            run=owner.book.name(spec), stage=spec.stage, new=spec.new, seen=spec.seen, steps=spec.steps,
            samples=spec.steps * stage.slices_per_step * stage.slice_size,
            recipes=[self._recipe(name, counts[name], costs[name]) for name in counts],
            tokens={m: t for cost in costs.values() for m, t in cost.tokens.items()},
            parts=[_with_activations(part, costs[heaviest]) for part in parts],
            flops=flops, total_flops=total,
            memory=max((self._memory(parts, c) for c in costs.values()), key=lambda m: m.peak),
            longest=self._memory(parts, longest),
            kept=other if self.engine.recompute else own, recomputed=own if self.engine.recompute else other,
            checkpoint=self._checkpoint(state), hours=hours(total, owner.settings, self.engine.world_size),
        )  # fmt: skip

    def _longest(self, name: str, cost: SliceCost) -> SliceCost:
        """The cost of the recipe's slice if its texts were as long as allowed; a text tower cuts them anyway."""
        if self.stage.template == "contrast":
            return cost
        return self.cost(self.slices.longest(name, self.stage), self.engine.recompute)

    def _memory(self, parts: list[PartMemory], cost: SliceCost) -> Memory:
        return peak_memory(self.exchange, parts, cost, self.engine)

    def _flops(self, counts: Mapping[str, int], costs: Mapping[str, SliceCost]) -> dict[str, dict[str, float]]:
        flops: dict[str, dict[str, float]] = {}
        for name, count in counts.items():
            for part, directions in costs[name].flops.items():
                row = flops.setdefault(part, {})
                for direction, number in directions.items():
                    row[direction] = row.get(direction, 0) + number * count * self.engine.world_size
        return flops

    def _recipe(self, name: str, count: int, cost: SliceCost) -> RecipeForecast:
        book, samples = self.owner.book, count * self.stage.slice_size
        media = book.media(name)
        per_sample = {p: {d: n / cost.samples for d, n in row.items()} for p, row in cost.flops.items()}
        folder = book.folder(name) / "train"
        shards = read_manifest(folder).shards if (folder / MANIFEST_NAME).is_file() else None
        size = book.num_samples(name, "train")
        return RecipeForecast(
            name, media, bool(self.spec.new) and not set(media) & set(self.spec.new), samples,
            None if name in book.unsized else size, cost.text[0], cost.text[1], cost.words, per_sample,
            cost.total_flops / cost.samples * samples,
            None if shards is None else len(shards), None if shards is None else sum(s.bytes for s in shards),
        )  # fmt: skip

    def _checkpoint(self, state: Mapping[str, int]) -> Checkpoint:
        sizes: Counter[str] = Counter()
        for part in part_memory(self.model, self.plan, Engine(), {}):
            if part.name in self.plan.saved:
                sizes[part.name] = part.weights
        return Checkpoint(
            sizes.total(), sum(-(-size // MAX_FILE_BYTES) for size in sizes.values()), sum(state.values())
        )


def hours(flops: float, settings: Settings, world_size: int) -> float:
    """Hours of training at the hardware's peak for the trainer's precision, times its utilisation."""
    hardware = settings.plan.hardware
    peak = hardware.peak_tflops[settings.trainer.precision] * 1e12
    return flops / (peak * hardware.utilisation * world_size) / 3600


def _with_activations(part: PartMemory, cost: SliceCost) -> PartMemory:
    return PartMemory(
        part.name, part.parameters, part.trains, part.weights, part.gradients, part.optimizer,
        cost.activations.get(part.name, 0),
    )  # fmt: skip
