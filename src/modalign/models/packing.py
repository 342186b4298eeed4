"""Samples one behind the other in a single row, so that linear maps see no padding; and back into padded rows.

Letters: B samples, T positions of the longest, N positions of all samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from modalign.models.rows import take
from modalign.models.transfer import sent


class Packing(NamedTuple):
    """Ways between right-padded rows and the packed one; a tuple, since it goes through layers as an argument.

    `kept` are the padded batch's places (b * T + t) that hold a token, in order; `padded` the packed place of each
    place of the padded batch, padding standing at its sample's last token; `ends` where each sample begins, and the
    last one ends.
    """

    lengths: tuple[int, ...]
    kept: Int[Tensor, "N"]
    padded: Int[Tensor, "B T"]
    ends: Int[Tensor, "_"]

    def pack(self, values: Shaped[Tensor, "B T *rest"]) -> Shaped[Tensor, "1 N *rest"]:
        """Rows without their padding, whose gradients are zero."""
        return take(values, self.kept, axes=2).unsqueeze(0)

    def unpack(self, values: Shaped[Tensor, "1 N *rest"]) -> Shaped[Tensor, "B T *rest"]:
        """Padded rows again; what stands in the padding means nothing, and nothing may be made of it."""
        return _Unpack.apply(values[0], self.kept, self.padded)


class _Unpack(torch.autograd.Function):
    """Backward takes no gradient from the padding: nothing is made of it."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, kept: Tensor, padded: Tensor) -> Tensor:
        ctx.save_for_backward(kept)
        return values.index_select(0, padded.flatten()).unflatten(0, padded.shape)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        return slope.flatten(0, 1).index_select(0, ctx.saved_tensors[0]), None, None


def packing_of(lengths: Sequence[int], longest: int, device: torch.device) -> Packing:
    """How right-padded rows of these lengths are packed."""
    kept: list[int] = []
    padded = []
    ends = [0]
    for row, length in enumerate(lengths):
        kept.extend(range(row * longest, row * longest + length))
        padded.append([ends[-1] + min(place, length - 1) for place in range(longest)])
        ends.append(len(kept))
    return Packing(
        tuple(lengths),
        sent(kept, device),
        sent(padded, device),
        sent(ends, device, torch.int32),
    )
