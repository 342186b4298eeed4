"""What each process has to hold: weights, gradients, optimizer state, activations; replicated or sharded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from modalign.config.processes import DATA_PARALLEL, SHARDED, SINGLE
from modalign.config.schema import OptimizerSettings
from modalign.models.freezing import FreezePlan
from modalign.models.language_model import CausalLanguageModel
from modalign.models.parts import part_of
from modalign.stages.forecast.repeats import repeated_layers
from modalign.stages.forecast.slice_cost import SliceCost
from modalign.stages.muon import hidden_matrices
from modalign.stages.optimizer import make_optimizer

BLOCK = 64  # numbers that share a scale in 4 bits


@dataclass(frozen=True)
class Engine:
    """How the processes share the work; `recompute`: activation checkpointing."""

    name: str = SINGLE
    world_size: int = 1
    recompute: bool = False
    accumulates: bool = False

    def share(self, num_bytes: float) -> int:
        """What one process holds of so many bytes of weights, gradients or optimizer state."""
        return round(num_bytes / self.world_size) if self.name == SHARDED else round(num_bytes)


@dataclass(frozen=True)
class PartMemory:
    """One part's parameters, and its bytes in one process."""

    name: str
    parameters: int
    trains: bool
    weights: int
    gradients: int
    optimizer: int
    activations: int = 0


@dataclass(frozen=True)
class Memory:
    """The highest sum of tensor bytes in one process, and what it is made of.

    `exchange` is what the engine adds: gradients on their way (ddp), layers gathered from their shards (fsdp2).
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    exchange: int
    peak: int


def part_memory(
    model: nn.Module, plan: FreezePlan, engine: Engine, optimizer_bytes: Mapping[str, int], bits: int | None = None
) -> list[PartMemory]:
    """Parameters and bytes of each part, in the model's order; tied tensors once, buffers counted as weights.

    `bits`: what the language model's frozen linear maps are kept in, where that is few.
    """
    counts: Counter[str] = Counter()
    weights: Counter[str] = Counter()
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        weights[part_of(name)] += tensor.nbytes
        counts[part_of(name)] += tensor.numel() if isinstance(tensor, nn.Parameter) else 0
    if bits is not None and "llm" in weights:
        weights["llm"] -= saved_by_bits(model, bits)
    gradients: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        gradients[part_of(name)] += parameter.nbytes if parameter.requires_grad else 0
    return [
        PartMemory(
            part, counts[part], part in plan.trains, engine.share(weights[part]), engine.share(gradients[part]),
            engine.share(optimizer_bytes.get(part, 0)),
        )
        for part in weights
        if weights[part]
    ]  # fmt: skip


def saved_by_bits(model: nn.Module, bits: int) -> int:
    """Bytes that bitsandbytes saves: all linear maps of the language model but the vocabulary's.

    In 8 bits each row has a scale in float32, in 4 bits each block of 64 numbers.
    """
    saved = 0
    head = cast(CausalLanguageModel, model.llm).model.get_output_embeddings()
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and module is not head and part_of(f"{name}.weight") == "llm":
            scales = module.out_features if bits == 8 else module.weight.numel() / BLOCK
            saved += module.weight.nbytes - round(module.weight.numel() * bits / 8 + 4 * scales)
    return saved


def optimizer_bytes(model: nn.Module, plan: FreezePlan, settings: OptimizerSettings) -> dict[str, int]:
    """Bytes of optimizer state by part, by taking a step without content (the real one works in place)."""
    muon = settings.muon
    hidden = set() if muon is None else {id(matrix) for matrix in hidden_matrices(model, muon.parts)}
    totals: dict[str, dict[tuple[torch.dtype, bool], list[Tensor]]] = {}
    for name, parameter in model.named_parameters():
        if part_of(name) in plan.trains:
            kind = parameter.dtype, id(parameter) in hidden
            totals.setdefault(part_of(name), {}).setdefault(kind, []).append(parameter)
    stand_ins = {part: {kind: _as_one(alike) for kind, alike in kinds.items()} for part, kinds in totals.items()}
    matrices = [one for kinds in stand_ins.values() for (_, is_hidden), one in kinds.items() if is_hidden]
    optimizer = make_optimizer(
        {part: list(kinds.values()) for part, kinds in stand_ins.items()}, {}, settings, matrices
    )
    for kinds in stand_ins.values():
        for tensor in kinds.values():
            tensor.grad = torch.empty_like(tensor)
    optimizer.step()
    state: dict[str, int] = {}
    for part, kinds in stand_ins.items():
        values = (value for tensor in kinds.values() for value in optimizer.state[tensor].values())
        state[part] = sum(value.nbytes for value in values if isinstance(value, Tensor))
    return state


def _as_one(tensors: Sequence[Tensor]) -> nn.Parameter:
    """One tensor of as many numbers: what is done elementwise costs the same."""
    return nn.Parameter(torch.empty(1, sum(t.numel() for t in tensors), dtype=tensors[0].dtype, device="meta"))


def peak_memory(exchange: int, parts: Sequence[PartMemory], cost: SliceCost, engine: Engine) -> Memory:
    """The highest sum over forward and backward; the optimizer's step needs no more than they leave.

    `exchange`: what `exchanged` says. Gradients of the step before live until the loss is there; where several slices
    make a step, through them all.
    """
    weights, gradients, optimizer = (sum(getattr(p, k) for p in parts) for k in ("weights", "gradients", "optimizer"))
    if engine.accumulates or engine.name == SHARDED:
        working = gradients + cost.activations_peak
    else:
        working = max(gradients + cost.forward_peak, cost.backward_peak)
    fixed = weights + optimizer + exchange
    return Memory(weights, gradients, optimizer, cost.activations_peak, exchange, fixed + working)


def exchanged(model: nn.Module, engine: Engine) -> int:
    """Bytes that an engine of several processes needs beside what each holds of its own."""
    trained = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    if engine.world_size == 1 or engine.name == SINGLE:
        return 0
    if engine.name == DATA_PARALLEL:
        return trained
    layers = [layer.module for layer in repeated_layers(model)]
    inside = {id(p) for layer in layers for p in layer.parameters()}
    around = sum(p.nbytes for p in model.parameters() if id(p) not in inside)
    largest = max((sum(p.nbytes for p in layer.parameters()) for layer in layers), default=0)
    slopes = max((sum(p.nbytes for p in la.parameters() if p.requires_grad) for la in layers), default=0)
    # The layer that works and the one fetched meanwhile are whole, and so is what lies in no layer.
    return around + 2 * largest + slopes
