"""The two layouts of rotary pairs: Meta's code rotates neighbours (2i, 2i+1), transformers halves (i, i + half).

Attention scores do not change when the rows of query and key projections are permuted alike, so a checkpoint of one
layout becomes one of the other by a permutation of rows.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def neighbours_to_halves(weight: Float[Tensor, "R D"], head_width: int) -> Float[Tensor, "R D"]:
    """Rows of a query or key projection from Meta's layout to transformers'."""
    return weight.unflatten(0, (-1, head_width // 2, 2)).transpose(1, 2).flatten(0, 2)


def halves_to_neighbours(weight: Float[Tensor, "R D"], head_width: int) -> Float[Tensor, "R D"]:
    """The inverse of `neighbours_to_halves`."""
    return weight.unflatten(0, (-1, 2, head_width // 2)).transpose(1, 2).flatten(0, 2)
