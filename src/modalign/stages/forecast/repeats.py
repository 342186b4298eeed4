"""Measures one of many equal layers and lets it stand for the others: thirty-two decoder layers cost as much as one.

A layer is measured apart from the rest, forward and backward. In the step itself its place is taken
by a single node of the graph that makes outputs of the right shapes, charges the measured FLOPs, and keeps and frees as
many bytes as the layer would; with `recompute` those of a layer under activation checkpointing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from modalign.models.parts import part_of
from modalign.stages.forecast.meter import BACKWARD, FORWARD, RECOMPUTE, Meter
from modalign.stages.forecast.shapes import empty, storage_of


@dataclass(frozen=True, slots=True)
class _Output:
    """A tensor that a layer gives out."""

    shape: torch.Size
    dtype: torch.dtype
    requires_grad: bool


@dataclass(frozen=True, slots=True)
class LayerCost:
    """One call of a layer: FLOPs, bytes that it keeps for backward beside its inputs, highest bytes on the way.

    `backward_peak` counts the layer's gradients, `backward_activations` does not.
    """

    forward_flops: int
    backward_flops: int
    kept_bytes: int
    keeps_input: tuple[bool, ...]
    forward_peak: int
    backward_peak: int
    backward_activations: int
    outputs: tuple[Any, ...]
    spec: TreeSpec


Memory = MutableMapping[Any, LayerCost]


@dataclass(frozen=True, slots=True)
class RepeatedLayer:
    """One of several equal layers; `kind` is the same for all that cost the same, `weights` are those that train."""

    name: str
    module: nn.Module
    kind: tuple[Any, ...]
    weights: tuple[nn.Parameter, ...]


def repeated_layers(model: nn.Module) -> list[RepeatedLayer]:
    """The innermost layers that follow each other in a list and are made alike."""
    found: dict[str, tuple[nn.Module, tuple[Any, ...]]] = {}
    for name, module in model.named_modules():
        if isinstance(module, (nn.ModuleList, nn.Sequential)):
            children = [(child_name, child) for child_name, child in module.named_children() if any(child.children())]
            shapes = [_shapes(child) for _, child in children]
            for (child_name, child), own in zip(children, shapes, strict=True):
                if shapes.count(own) > 1:
                    found[f"{name}.{child_name}"] = child, own
    outer = {name.rpartition(".")[0] for name in found}
    return [
        # Layers of one list are alike whatever their number; those of another list may differ in what no shape shows.
        RepeatedLayer(
            name, layer, (part_of(name).rstrip("0123456789"), own),
            tuple(weight for weight in layer.parameters() if weight.requires_grad),
        )
        for name, (layer, own) in found.items()
        if not any(inside == name or inside.startswith(name + ".") for inside in outer)
    ]  # fmt: skip


def _shapes(layer: nn.Module) -> tuple[Any, ...]:
    weights = tuple((name, p.shape, p.dtype, p.requires_grad) for name, p in layer.named_parameters())
    return type(layer), layer.training, weights


@contextmanager
def repeats_once(
    layers: Iterable[RepeatedLayer], meter: Meter, memory: Memory, recompute: bool = False
) -> Iterator[None]:
    """Within it, equal layers of a list are measured once; `memory` keeps what was measured, by layer and shapes."""
    layers = list(layers)
    # A forward may have been replaced before, as the last decoder layer's is.
    replaced = [vars(layer.module).get("forward") for layer in layers]
    for layer in layers:
        layer.module.forward = _StandIn(layer, meter, memory, recompute)
    try:
        yield
    finally:
        for layer, forward in zip(layers, replaced, strict=True):
            del layer.module.forward
            if forward is not None:
                layer.module.forward = forward


class _StandIn:
    """Takes the place of a layer's `forward`."""

    def __init__(self, layer: RepeatedLayer, meter: Meter, memory: Memory, recompute: bool) -> None:
        self.layer, self.meter, self.memory, self.recompute = layer, meter, memory, recompute
        self.run = layer.module.forward

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        leaves, spec = tree_flatten((args, kwargs))
        key = (self.layer.kind, spec, tuple(_described(leaf) for leaf in leaves), torch.is_grad_enabled(), _precision())
        if key not in self.memory:
            self.memory[key] = self._measure(leaves, spec)
        cost = self.memory[key]
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point()]
        self.meter.charge(self.meter.owner, FORWARD, cost.forward_flops)
        self.meter.tape.touch(self.meter.owner, cost.forward_peak)
        made = iter(_Node.apply(self.meter, cost, self.recompute, len(tensors), *tensors, *self.layer.weights))
        return tree_unflatten([next(made) if isinstance(out, _Output) else out for out in cost.outputs], cost.spec)

    def _measure(self, leaves: list[Any], spec: TreeSpec) -> LayerCost:
        """Run the layer once, forward and backward, on inputs like these and on a tape of its own."""
        own = [_like(leaf) for leaf in leaves]
        args, kwargs = tree_unflatten(own, spec)
        tensors = [leaf for leaf in own if isinstance(leaf, Tensor) and leaf.is_floating_point()]
        kept: set[int] = set()

        def keep(tensor: Tensor) -> Tensor:
            kept.add(storage_of(tensor)._cdata)
            return tensor.detach()

        weights = self.layer.weights
        gradients = [weight.grad for weight in weights]
        with self.meter.apart() as tape:
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                result = self.run(*args, **kwargs)
            outputs, out_spec = tree_flatten(result)
            forward_flops, forward_peak = tape.flops.total(), tape.peak
            made = {storage_of(t)._cdata: storage_of(t).nbytes() for t in outputs if isinstance(t, Tensor)}
            kept_bytes = max(0, tape.total - sum(made.values()))
            described = tuple(
                _Output(t.shape, t.dtype, t.requires_grad) if isinstance(t, Tensor) else t for t in outputs
            )
            differentiable = [t for t in outputs if isinstance(t, Tensor) and t.requires_grad]
            slopes = [torch.empty_like(t) for t in differentiable]
            self.meter.direction = BACKWARD
            tape.from_here()
            begin, begin_activations = tape.total, tape.activations
            for weight in weights:
                weight.grad = None
            if differentiable:
                torch.autograd.backward(differentiable, slopes)
            peak, activations = tape.peak - begin, tape.activations_peak - begin_activations
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.grad = gradient
        keeps = tuple(storage_of(t)._cdata in kept for t in tensors)
        return LayerCost(
            forward_flops, tape.flops.total() - forward_flops, kept_bytes, keeps, forward_peak, peak, activations,
            described, out_spec,
        )  # fmt: skip


class _Node(torch.autograd.Function):
    """The graph's node in place of a layer: tensors of the right shapes, measured costs."""

    @staticmethod
    def forward(
        ctx: Any, meter: Meter, cost: LayerCost, recompute: bool, num_inputs: int, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        """Outputs, and what the layer would keep for backward: its inputs, or an empty tensor of so many bytes."""
        ctx.meter, ctx.cost, ctx.recompute, ctx.owner = meter, cost, recompute, meter.owner
        ctx.shapes = [(t.shape, t.dtype) for t in tensors]
        outputs = [output for output in cost.outputs if isinstance(output, _Output)]
        made = tuple(empty(tuple(output.shape), output.dtype) for output in outputs)
        if any(ctx.needs_input_grad):
            inputs = tensors[:num_inputs]
            ctx.save_for_backward(*(t for t, k in zip(inputs, cost.keeps_input, strict=True) if k or recompute))
            ctx.held = None if recompute else empty((cost.kept_bytes,), torch.uint8)
        ctx.mark_non_differentiable(*(t for t, out in zip(made, outputs, strict=True) if not out.requires_grad))
        return made

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the right shapes."""
        cost, meter = ctx.cost, ctx.meter
        again = cost.kept_bytes if ctx.recompute else 0
        if ctx.recompute:
            meter.charge(ctx.owner, RECOMPUTE, cost.forward_flops)
            meter.tape.touch(ctx.owner, cost.forward_peak)
        meter.charge(ctx.owner, BACKWARD, cost.backward_flops)
        meter.tape.touch(ctx.owner, again + cost.backward_peak, again + cost.backward_activations)
        ctx.held = None
        needed = ctx.needs_input_grad[4:]
        given = [
            empty(tuple(shape), dtype) if need else None
            for (shape, dtype), need in zip(ctx.shapes, needed, strict=True)
        ]
        return (None, None, None, None, *given)


def _described(leaf: Any) -> Any:
    """What of an argument decides the cost."""
    if isinstance(leaf, Tensor):
        return tuple(leaf.shape), leaf.dtype, leaf.requires_grad
    return leaf if isinstance(leaf, (int, float, str, bool, type(None))) else type(leaf)


def _like(leaf: Any) -> Any:
    """A tensor of the same kind that belongs to no graph; anything else as it is."""
    if isinstance(leaf, Tensor) and leaf.is_floating_point():
        return torch.empty_like(leaf).detach().requires_grad_(leaf.requires_grad)
    return leaf


def _precision() -> tuple[Any, ...]:
    return torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"), torch.get_default_dtype()
