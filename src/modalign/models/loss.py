"""The token loss, computed at supervised positions alone: the vocabulary head never sees the others.

Letters: B samples, T positions, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from modalign.models.linear import product
from modalign.models.transfer import sent

IGNORED = -100
# At how many positions a frozen head computes logits at a time. Each time reads the whole head: fewer would wait for
# its memory, and a GPU, which multiplies faster than it reads, needs more of them.
ROWS = {"cpu": 64}
MANY_ROWS = 4096


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
    frozen: FrozenHead | None = None,
    places: Sequence[Sequence[int]] | None = None,
) -> LossOutput:
    """Weighted cross entropy of `labels[b, t]` given `hidden[b, t]`, summed; only the sum carries a gradient.

    With `frozen`, what `logits_fn` is where it is a linear map that does not train, only a few logits live at a time.
    `places` are each row's supervised positions, where the host knows them (else they are read back from the labels).
    """
    if places is None:
        samples, positions = (labels != IGNORED).nonzero(as_tuple=True)
    else:
        both = [[row for row, found in enumerate(places) for _ in found], [t for found in places for t in found]]
        samples, positions = sent(both, labels.device, torch.long)
    weight = weights[samples, positions].float()
    chosen, wanted = hidden[samples, positions], labels[samples, positions]
    if frozen is None or not (torch.is_grad_enabled() and chosen.requires_grad):
        losses = F.cross_entropy(logits_fn(chosen).float(), wanted, reduction="none") * weight
        total = losses.sum()
    else:
        total, losses = _ByParts.apply(chosen, wanted, weight, frozen.weight.detach(), frozen.bias)
    sums = torch.zeros(len(labels), device=hidden.device)
    return LossOutput(
        total,
        weight.sum(),
        sums.index_add(0, samples, losses.detach()),
        sums.index_add(0, samples, weight),
    )


class FrozenHead(NamedTuple):
    """The vocabulary head as a linear map that does not train."""

    weight: Float[Tensor, "V D"]
    bias: Float[Tensor, "V"] | None = None


class _ByParts(torch.autograd.Function):
    """The sum of the losses and, without a gradient, each; slopes are taken as soon as a part's logits are there."""

    @staticmethod
    def forward(
        ctx: Any, chosen: Tensor, wanted: Tensor, weight: Tensor, head: Tensor, bias: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        kind = chosen.device.type
        if torch.is_autocast_enabled(kind):
            head = head.to(torch.get_autocast_dtype(kind))
        losses, slopes = weight.new_empty(len(chosen)), torch.empty_like(chosen)
        rows = ROWS.get(kind, MANY_ROWS)
        for begin in range(0, len(chosen), rows):
            part = slice(begin, begin + rows)
            shares = product(chosen[part].to(head.dtype), head, bias).float().log_softmax(dim=-1)
            picked = wanted[part, None]
            losses[part] = shares.gather(1, picked)[:, 0].neg_().mul_(weight[part])
            shares.exp_().scatter_add_(1, picked, shares.new_full(picked.shape, -1.0))
            slopes[part] = product(shares.to(head.dtype), head.t()) * weight[part, None]
        ctx.save_for_backward(slopes)
        ctx.mark_non_differentiable(losses)
        return losses.sum(), losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor, _: Tensor) -> tuple[Tensor, None, None, None, None]:
        return ctx.saved_tensors[0] * slope, None, None, None, None


def joined(losses: Sequence[LossOutput], groups: Sequence[Sequence[int]]) -> LossOutput:
    """The loss of a batch whose rows were computed in groups, per-sample sums in the batch's order."""
    rows = [row for group in groups for row in group]
    order = sent(sorted(range(len(rows)), key=rows.__getitem__), losses[0].per_sample_sum.device)
    return LossOutput(
        torch.stack([loss.loss_sum for loss in losses]).sum(),
        torch.stack([loss.weight_sum for loss in losses]).sum(),
        torch.cat([loss.per_sample_sum for loss in losses])[order],
        torch.cat([loss.per_sample_weight for loss in losses])[order],
    )
