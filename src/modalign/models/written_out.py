"""Softmax attention on a CPU with its products written out, as one operation that computes some heads at a time.

So few heads at a time that their scores stay in the processor's cache, which torch's fused kernel gains by its blocks;
its many small products are what this saves. Values and gradients agree with it to rounding (experiments/speed).

Letters: N items, H heads, Q tokens that read, L tokens that are read, D width of a head, R = N * H rows, C of them at
a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

# Scores computed at a time: 2 MB in float32.
AT_A_TIME = 1 << 19
# Up to so many tokens their weights are kept for the backward pass; beyond they are computed again, since reading them
# from memory takes longer.
KEPT_TOKENS = 128

_softmax_slope = torch.ops.aten._softmax_backward_data.out


def written_out(
    query: Float[Tensor, "N H Q D"],
    key: Float[Tensor, "N H L D"],
    value: Float[Tensor, "N H L D"],
    mask: Bool[Tensor, "N 1 1 L"] | None = None,
) -> Float[Tensor, "N H Q D"]:
    """Softmax attention over the tokens that the mask allows (all, without one)."""
    return _WrittenOut.apply(query, key, value, mask)


class _WrittenOut(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        shape = query.shape
        banned = None if mask is None else _banned(mask, shape[1])
        query, key, value = (x.flatten(0, 1) for x in (query, key, value))
        keeps = any(ctx.needs_input_grad) and key.shape[1] <= KEPT_TOKENS
        weights = query.new_empty(len(query), shape[2], key.shape[1]) if keeps else None
        out = torch.empty_like(query, memory_format=torch.contiguous_format)
        for rows, scratch in _parts(query, key, weights):
            _weights(query, key, banned, rows, scratch)
            torch.bmm(scratch, value[rows], out=out[rows])
        ctx.save_for_backward(query, key, value, banned, weights)
        return out.view(shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        query, key, value, banned, weights = ctx.saved_tensors
        lead = slope.shape[:2]
        slope = slope.flatten(0, 1)
        by_query, by_key, by_value = (x.new_empty(x.shape) for x in (query, key, value))
        scale = query.shape[-1] ** -0.5
        by_scores = query.new_empty(0)
        for rows, known in _parts(query, key, weights):
            if weights is None:
                _weights(query, key, banned, rows, known)
            torch.bmm(known.transpose(1, 2), slope[rows], out=by_value[rows])
            by_scores = by_scores[: len(known)] if by_scores.numel() else torch.empty_like(known)
            torch.bmm(slope[rows], value[rows].transpose(1, 2), out=by_scores)
            _softmax_slope(by_scores, known, -1, by_scores.dtype, grad_input=by_scores)
            torch.baddbmm(by_query[rows], by_scores, key[rows], beta=0, alpha=scale, out=by_query[rows])
            turned = by_scores.transpose(1, 2)
            torch.baddbmm(by_key[rows], turned, query[rows], beta=0, alpha=scale, out=by_key[rows])
        return by_query.unflatten(0, lead), by_key.unflatten(0, lead), by_value.unflatten(0, lead), None


def _parts(query: Tensor, key: Tensor, weights: Tensor | None) -> Iterator[tuple[slice, Float[Tensor, "C Q L"]]]:
    """Rows to compute together, with where their weights are, or with room for them."""
    scores = query.shape[1] * key.shape[1]
    count = min(len(query), max(1, AT_A_TIME // scores))
    room = query.new_empty(count, query.shape[1], key.shape[1]) if weights is None else None
    for begin in range(0, len(query), count):
        rows = slice(begin, min(begin + count, len(query)))
        held = room[: rows.stop - begin] if room is not None else weights[rows]  # type: ignore[index]
        yield rows, held


def _weights(query: Tensor, key: Tensor, banned: Tensor | None, rows: slice, into: Tensor) -> None:
    """The softmax of the rows' scores."""
    scale = query.shape[-1] ** -0.5
    torch.baddbmm(into, query[rows], key[rows].transpose(1, 2), beta=0, alpha=scale, out=into)
    if banned is not None:
        into.masked_fill_(banned[rows], float("-inf"))
    torch.softmax(into, dim=-1, out=into)


def _banned(mask: Tensor, heads: int) -> Bool[Tensor, "R 1 L"]:
    """What the rows may not read."""
    return (~mask).expand(-1, heads, -1, -1).flatten(0, 1)
