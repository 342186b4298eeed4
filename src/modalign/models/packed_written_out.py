"""Causal attention within each sample of a packed row on a CPU, its products written out, as one operation over all.

Torch's fused kernel takes a call and a step of the graph for each sample, and many small products within each. Values
and gradients agree with it to rounding (experiments/speed).

Letters: H heads, N positions of all samples, D width of a head, T positions of one sample.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

# Longer samples and wider heads are the fused kernel's.
MOST_TOKENS, WIDEST = 128, 64

_softmax_slope = torch.ops.aten._softmax_backward_data.out


def each_written_out(
    query: Float[Tensor, "1 H N D"],
    key: Float[Tensor, "1 H N D"],
    value: Float[Tensor, "1 H N D"],
    lengths: Sequence[int],
    scale: float,
) -> Float[Tensor, "1 N H D"]:
    """What each position reads of its own sample up to itself; samples lie one behind the other, `lengths` long."""
    return _Each.apply(query, key, value, tuple(lengths), scale)


class _Each(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, lengths: tuple[int, ...], scale: float) -> Tensor:
        ctx.lengths, ctx.scale = lengths, scale
        q, k, v = query[0], key[0], value[0]
        out = query.new_empty(q.shape[1], q.shape[0], v.shape[2])
        later = query.new_full((max(lengths), max(lengths)), float("-inf")).triu_(1)
        weights = []
        for place in _places(lengths):
            own = later[: place.stop - place.start, : place.stop - place.start]
            read = torch.baddbmm(own, q[:, place], k[:, place].transpose(1, 2), alpha=scale)
            weights.append(torch.softmax(read, dim=-1, out=read))
            out[place].transpose(0, 1).copy_(torch.bmm(read, v[:, place]))
        ctx.save_for_backward(query, key, value, *weights)
        return out.unsqueeze(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Float[Tensor, "1 N H D"]) -> tuple[Tensor, Tensor, Tensor, None, None]:
        query, key, value, *weights = ctx.saved_tensors
        q, k, v, slope = query[0], key[0], value[0], slope[0].transpose(0, 1)
        made = [x.new_empty(x.shape[1], x.shape[0], x.shape[2]) for x in (q, k, v)]
        by_query, by_key, by_value = (x.transpose(0, 1) for x in made)
        for place, known in zip(_places(ctx.lengths), weights, strict=True):
            own = slope[:, place]
            by_value[:, place] = torch.bmm(known.transpose(1, 2), own)
            by_scores = torch.bmm(own, v[:, place].transpose(1, 2))
            _softmax_slope(by_scores, known, -1, known.dtype, grad_input=by_scores)
            by_scores.mul_(ctx.scale)
            by_query[:, place] = torch.bmm(by_scores, k[:, place])
            by_key[:, place] = torch.bmm(by_scores.transpose(1, 2), q[:, place])
        return by_query.unsqueeze(0), by_key.unsqueeze(0), by_value.unsqueeze(0), None, None


def _places(lengths: Sequence[int]) -> Iterator[slice]:
    """Where each sample lies."""
    begin = 0
    for length in lengths:
        yield slice(begin, begin + length)
        begin += length
