"""What passes through a projector while a model runs: its soft tokens, its router's weights, its experts' distance."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from modalign.evaluation.probes.findings import Routing
from modalign.types import TokenSet


@dataclass(slots=True)
class Seen:
    """The last soft tokens of a modality, and the router's weights [items, query tokens, experts] that mixed them."""

    soft_tokens: TokenSet | None = None
    weights: Tensor | None = None


@contextmanager
def watching(projector: Any, modality: str) -> Iterator[Seen]:
    """Within it `Seen` is filled by whatever the projector computes for `modality`; nothing is computed for it."""
    seen = Seen()

    def keep_tokens(module: Any, given: tuple[Any, ...], output: TokenSet) -> None:
        if given[1] == modality:
            seen.soft_tokens = output

    def keep_weights(module: Any, given: tuple[Any, ...], output: Tensor) -> None:
        seen.weights = output

    hooks = [projector.register_forward_hook(keep_tokens)]
    routers = getattr(projector, "router", {})
    if modality in routers:
        hooks.append(routers[modality].register_forward_hook(keep_weights))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def routing(projector: Any, weights: Tensor | None) -> Routing | None:
    """Load and entropies of the weights that were seen; without a router all experts weigh alike; None for one."""
    num_experts = getattr(projector, "num_experts", 1)
    if num_experts < 2:
        return None
    if weights is None:
        weights = torch.full((1, 1, num_experts), 1.0 / num_experts)
    shares = weights.detach().double().cpu()
    shares = shares / shares.sum(dim=-1, keepdim=True).clamp_min(1e-12)
    load = shares.mean(dim=(0, 1))
    return Routing(tuple(load.tolist()), float(_entropy(shares).mean()), float(_entropy(load)))


def expert_distances(model: Any) -> dict[str, tuple[tuple[float, ...], ...]]:
    """By projector with several experts, how far these are apart: 0 for copies of one."""
    found = {}
    for name, projector in model.projectors.items():
        if getattr(projector, "num_experts", 1) > 1:
            found[name] = tuple(tuple(row) for row in projector.expert_distance().tolist())
    return found


def mean_distance(rows: tuple[tuple[float, ...], ...]) -> float:
    """The mean over all pairs of different experts."""
    apart = [value for i, row in enumerate(rows) for j, value in enumerate(row) if i != j]
    return sum(apart) / len(apart)


def _entropy(shares: Tensor) -> Tensor:
    """Over the last axis, as a share of that of the uniform distribution."""
    largest = torch.log(torch.tensor(float(shares.shape[-1])))
    return -torch.xlogy(shares, shares).sum(dim=-1) / largest
