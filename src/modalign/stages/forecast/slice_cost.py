"""What one slice costs one process: the stage's own objective, forward and backward, on tensors without content."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from modalign.models.freezing import FreezableModule
from modalign.models.tokenizers import points
from modalign.stages.forecast.meter import FORWARD, Meter
from modalign.stages.forecast.repeats import Memory, RepeatedLayer, repeats_once
from modalign.stages.forecast.shadow import shape_like
from modalign.stages.forecast.shapes import storage_of
from modalign.stages.forecast.slices import Slice, text_tokens, without_content
from modalign.stages.objective import Term
from modalign.types import TokenSet

BATCH = "batch"  # owner of the media themselves
MIXED = {"bf16-mixed": torch.bfloat16}


@dataclass(frozen=True)
class Tokens:
    """How one sample's medium becomes tokens: frames, tokens of each, what the encoder sees, soft tokens."""

    frames: int
    tokens: int
    encoded: int
    soft: int


@dataclass(frozen=True)
class SliceCost:
    """A slice's cost to one process; FLOPs by part and direction, bytes as they add up to a peak.

    `forward_peak`: activations up to the loss. `backward_peak`: activations and the gradients made so far.
    `activations_peak`: activations alone, whenever; `activations`: whose they were at that moment.
    """

    samples: int
    flops: dict[str, dict[str, int]]
    forward_peak: int
    backward_peak: int
    activations_peak: int
    activations: dict[str, int]
    tokens: dict[str, Tokens]
    text: tuple[float, float]
    words: str = field(default="read")

    @property
    def total_flops(self) -> int:
        """Of all parts and directions."""
        return sum(count for directions in self.flops.values() for count in directions.values())


def slice_cost(
    model: FreezableModule,
    objective: tuple[Term, ...],
    slice_: Slice,
    layers: Sequence[RepeatedLayer],
    memory: Memory,
    precision: str = "32-true",
    recompute: bool = False,
) -> SliceCost:
    """Run `objective` on a slice with a model of shapes, whose repeated `layers` may be checkpointed (`recompute`)."""
    batch = without_content(slice_.batch, shape_like)
    meter = Meter()
    with ExitStack() as within:
        within.enter_context(warnings.catch_warnings(action="ignore"))
        within.enter_context(without_fast_path())
        within.enter_context(sampling_once())
        tokens = within.enter_context(watching_tokens(model, list(batch.media)))
        within.enter_context(meter)
        within.enter_context(meter.watch(model))
        within.enter_context(repeats_once(layers, meter, memory, recompute))
        for items in batch.media.values():
            meter.tape.add(BATCH, storage_of(items.values).nbytes())
        with torch.autocast("cpu", dtype=MIXED.get(precision, torch.bfloat16), enabled=precision in MIXED):
            terms = [term(model, batch).total * term.weight for term in objective]
            loss = torch.stack(terms).sum() if len(terms) > 1 else terms[0]
        forward_peak = meter.tape.peak
        meter.tape.peak = meter.tape.total  # activations_peak is of both
        meter.backward(loss)
    for parameter in model.parameters():
        parameter.grad = None
    return SliceCost(
        len(batch.keys), _nested(meter.tape.flops), forward_peak, meter.tape.peak, meter.tape.activations_peak,
        meter.tape.at_peak, dict(tokens), text_tokens(batch), slice_.words,
    )  # fmt: skip


@contextmanager
def watching_tokens(model: nn.Module, modalities: list[str]) -> Iterator[dict[str, Tokens]]:
    """Fills the yielded mapping with the tokens of each modality that runs through the model's parts."""
    found: dict[str, Tokens] = {}
    latest: dict[str, tuple[int, ...]] = {}
    order = iter(modalities)

    def note(kind: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Tensor | TokenSet) -> None:
            shape = tuple((output.values if isinstance(output, TokenSet) else output).shape)
            latest[kind] = shape
            if kind == "projectors":
                made = latest["tokenizers"]
                found[next(order)] = Tokens(made[1], made[2], latest.get("encoders", made)[-2], shape[1])

        return hook

    handles = [
        module.register_forward_hook(note(kind))
        for kind in ("tokenizers", "encoders", "projectors")
        for module in getattr(model, kind, nn.ModuleDict()).values()
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def without_fast_path() -> Iterator[None]:
    """torch's fused attention of frozen modules has no formula for its FLOPs: count those of the ordinary way."""
    kept = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(kept)


@contextmanager
def sampling_once() -> Iterator[None]:
    """Farthest-point sampling takes a round for each group, and every round costs what the first does, in bytes; none
    has a product. Of a thousand one is run."""
    kept = points.farthest_points

    def first_round(places: Tensor, num_groups: int) -> Tensor:
        return kept(places, min(num_groups, 2))[:, -1:].repeat(1, num_groups)

    points.farthest_points = first_round
    try:
        yield
    finally:
        points.farthest_points = kept


def _nested(flops: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    nested: dict[str, dict[str, int]] = {}
    for (owner, direction), count in flops.items():
        if count:
            nested.setdefault(owner, {FORWARD: 0})[direction] = count
    return nested
