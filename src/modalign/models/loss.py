"""The token loss, computed at supervised positions alone: the vocabulary head never sees the others.

Letters: B samples, T positions, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

IGNORED = -100


@dataclass(slots=True)
class LossOutput:
    """Sums, not means, so that the caller can divide by the weights of all ranks and micro-steps together."""

    loss_sum: Float[Tensor, ""]
    weight_sum: Float[Tensor, ""]
    per_sample_sum: Float[Tensor, "B"]
    per_sample_weight: Float[Tensor, "B"]


def supervised_loss(
    hidden: Float[Tensor, "B T D"],
    labels: Int[Tensor, "B T"],
    weights: Float[Tensor, "B T"],
    logits_fn: Callable[[Tensor], Tensor],
) -> LossOutput:
    """Weighted cross entropy of `labels[b, t]` given `hidden[b, t]`, summed; only the sum carries a gradient."""
    samples, positions = (labels != IGNORED).nonzero(as_tuple=True)
    weight = weights[samples, positions].float()
    logits = logits_fn(hidden[samples, positions])
    losses = F.cross_entropy(logits.float(), labels[samples, positions], reduction="none") * weight
    sums = torch.zeros(len(labels), device=hidden.device)
    return LossOutput(
        losses.sum(),
        weight.sum(),
        sums.index_add(0, samples, losses.detach()),
        sums.index_add(0, samples, weight),
    )


def joined(losses: Sequence[LossOutput], groups: Sequence[Sequence[int]]) -> LossOutput:
    """The loss of a batch whose rows were computed in groups, per-sample sums in the batch's order."""
    order = torch.tensor([row for rows in groups for row in rows]).argsort()
    order = order.to(losses[0].per_sample_sum.device)
    return LossOutput(
        torch.stack([loss.loss_sum for loss in losses]).sum(),
        torch.stack([loss.weight_sum for loss in losses]).sum(),
        torch.cat([loss.per_sample_sum for loss in losses])[order],
        torch.cat([loss.per_sample_weight for loss in losses])[order],
    )
