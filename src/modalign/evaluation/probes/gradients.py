"""Which parts a modality's loss pulls at: the norm of its gradient by part, with no gradient left behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from modalign.types import Batch


@torch.enable_grad()
def gradient_norms(model: Any, batch: Batch, parts: Mapping[str, Sequence[nn.Parameter]]) -> dict[str, float]:
    """The length of the gradient of the batch's mean loss by part, 0 where the loss does not depend on it."""
    everything = [parameter for group in parts.values() for parameter in group if parameter.is_floating_point()]
    if not everything:
        return {}
    before = [parameter.requires_grad for parameter in everything]
    for parameter in everything:
        parameter.requires_grad_(True)
    try:
        output = model(batch)
        loss = output.loss_sum / output.weight_sum
        found = torch.autograd.grad(loss, everything, allow_unused=True)
    finally:
        for parameter, trained in zip(everything, before, strict=True):
            parameter.requires_grad_(trained)
    lengths = {id(p): 0.0 if g is None else float(g.norm()) for p, g in zip(everything, found, strict=True)}
    return {name: sum(lengths.get(id(p), 0.0) ** 2 for p in group) ** 0.5 for name, group in parts.items()}
