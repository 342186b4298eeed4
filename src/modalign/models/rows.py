"""Some of a tensor's rows taken out, and put back: each at most once, so either way is a copy, backward too.

Letters: R rows that are taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int, Shaped
from torch import Tensor


def take(values: Shaped[Tensor, "..."], index: Int[Tensor, "R"], axes: int) -> Shaped[Tensor, "R *rest"]:
    """Rows by their number among all those of the first `axes` axes, no number twice.

    Indexing would add gradients up, this copies them.
    """
    return _Take.apply(values, index, axes)


def put(rows: Shaped[Tensor, "R *rest"], index: Int[Tensor, "R"], lead: Sequence[int]) -> Shaped[Tensor, "..."]:
    """The rows at their numbers in a tensor of the leading shape `lead`, zeros elsewhere."""
    return _Put.apply(rows, index, tuple(lead))


def _placed(rows: Tensor, index: Tensor, lead: Sequence[int]) -> Tensor:
    """No view of anything, so that a layer may change it in place."""
    made = rows.new_zeros(*lead, *rows.shape[1:])
    made.flatten(0, len(lead) - 1).index_copy_(0, index, rows)
    return made


class _Take(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, index: Tensor, axes: int) -> Tensor:
        ctx.lead = values.shape[:axes]
        ctx.save_for_backward(index)
        return values.flatten(0, axes - 1).index_select(0, index)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        return _placed(slope, ctx.saved_tensors[0], ctx.lead), None, None


class _Put(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor, lead: tuple[int, ...]) -> Tensor:
        ctx.axes = len(lead)
        ctx.save_for_backward(index)
        return _placed(rows, index, lead)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        return slope.flatten(0, ctx.axes - 1).index_select(0, ctx.saved_tensors[0]), None, None
