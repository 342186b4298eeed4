"""The repeated blocks of a model's large parts: the units that are computed again, and sharded, one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def repeated_blocks(module: nn.Module) -> list[nn.Module]:
    """The blocks of a transformer: of the lists of modules of one class, the one that holds most parameters."""
    best: list[nn.Module] = []
    most = 0
    for child in module.modules():
        if isinstance(child, (nn.ModuleList, nn.Sequential)) and len({type(member) for member in child}) == 1:
            size = sum(parameter.numel() for parameter in child.parameters())
            if size > most:
                best, most = list(child), size
    return best


def large_blocks(model: nn.Module) -> list[nn.Module]:
    """The blocks of the language model, of the encoders and of a text tower, as far as the model has them."""
    parts = [part for name in ("llm", "text") if (part := getattr(model, name, None)) is not None]
    parts += list(getattr(model, "encoders", nn.ModuleDict()).values())
    return [block for part in parts for block in repeated_blocks(part)]


def experts(model: nn.Module) -> list[nn.Module]:
    """The experts of all projectors that have any."""
    projectors = getattr(model, "projectors", nn.ModuleDict()).values()
    return [expert for projector in projectors for expert in getattr(projector, "experts", ())]


def recompute(blocks: list[nn.Module]) -> None:
    """Keep of these blocks only what enters them; the backward pass computes them once more.

    Their forward is replaced in place, in training and in eval mode alike (a frozen language model is in eval mode).
    Names of tensors stay, and hooks stay outside: what a fusion inserts in front of a block is not computed again, at
    a time when its media are gone.
    """
    for block in blocks:
        if not isinstance(block.forward, _Recomputed):
            block.forward = _Recomputed(block.forward)  # type: ignore[method-assign]


class _Recomputed:
    """A forward whose intermediate values are not kept; an object, so that copies of a model get their own."""

    def __init__(self, forward: Callable[..., Any]) -> None:
        self.forward = forward

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return self.forward(*args, **kwargs)
        return checkpoint(self.forward, *args, use_reentrant=False, **kwargs)
