"""The block that an expert is made of: LLaMA's, but bidirectional and without rotary positions.

Letters: N items, L tokens, Q query tokens (they come first), D width.
"""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from modalign.errors import ModalignError
from modalign.models.attention import attend
from modalign.models.fused import gated_linear, norm_linear


class Attention(nn.Module):
    """Multi-head attention in which every token sees every valid token."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        if width % num_heads:
            raise ModalignError(f"a width of {width} cannot be split into {num_heads} heads; change width or num_heads")
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(
        self, x: Float[Tensor, "N L D"], norm: nn.RMSNorm, num_out: int, mask: Bool[Tensor, "N 1 1 L"] | None
    ) -> Float[Tensor, "N _ D"]:
        """What the first `num_out` tokens read from all tokens, each normed first."""
        width, weight = x.shape[-1], self.qkv.weight
        if num_out == x.shape[1]:
            query, key, value = after_norm(x, norm, weight).chunk(3, dim=-1)
        else:
            query = after_norm(x[:, :num_out], norm, weight[:width])
            key, value = after_norm(x, norm, weight[width:]).chunk(2, dim=-1)
        read = attend(self._heads(query), self._heads(key), self._heads(value), mask)
        return self.out(read.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class SwiGLU(nn.Module):
    """The gated feed-forward layer of LLaMA, with the norm in front of it."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Float[Tensor, "... D"], norm: nn.RMSNorm) -> Float[Tensor, "... D"]:
        """silu(gate) * up of the normed rows, back to the width."""
        return gated_linear(after_norm(x, norm, self.gate_up.weight), self.down.weight)


def after_norm(x: Float[Tensor, "... D"], norm: nn.RMSNorm, weight: Float[Tensor, "E D"]) -> Float[Tensor, "... E"]:
    """A linear map of normed rows."""
    return norm_linear(x, cast(Tensor, norm.weight), cast(float, norm.eps), weight)


class Block(nn.Module):
    """RMSNorm and attention, RMSNorm and SwiGLU, each added to what came."""

    def __init__(self, width: int, num_heads: int, hidden: int, norm_eps: float = 1e-5) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(width, eps=norm_eps)
        self.attention = Attention(width, num_heads)
        self.feed_norm = nn.RMSNorm(width, eps=norm_eps)
        self.feed = SwiGLU(width, hidden)

    def forward(
        self, x: Float[Tensor, "N L D"], num_out: int | None = None, mask: Bool[Tensor, "N 1 1 L"] | None = None
    ) -> Float[Tensor, "N _ D"]:
        """The first `num_out` tokens (all, without it) after this block."""
        count = x.shape[1] if num_out is None else num_out
        x = x[:, :count] + self.attention(x, self.attention_norm, count, mask)
        return x + self.feed(x, self.feed_norm)


class Expert(nn.Module):
    """A stack of blocks over query and input tokens that gives out the query tokens.

    Nobody reads the input tokens after the last block, so that block computes the query tokens alone: same values.
    """

    def __init__(self, width: int, num_layers: int, num_heads: int, hidden: int, norm_eps: float = 1e-5) -> None:
        super().__init__()
        if num_layers < 1:
            raise ModalignError(f"an expert needs at least one layer, {num_layers} were asked for (expert_layers)")
        self.blocks = nn.ModuleList(Block(width, num_heads, hidden, norm_eps) for _ in range(num_layers))

    def forward(
        self, queries: Float[Tensor, "N Q D"], inputs: Float[Tensor, "N L D"], mask: Bool[Tensor, "N L"] | None = None
    ) -> Float[Tensor, "N Q D"]:
        """The query tokens after having read the valid inputs."""
        num_queries = queries.shape[1]
        seen = None
        if mask is not None:
            seen = torch.cat([mask.new_ones(len(mask), num_queries), mask], dim=1)[:, None, None]
        x = torch.cat([queries, inputs], dim=1)
        for block in self.blocks[:-1]:
            x = block(x, mask=seen)
        return self.blocks[-1](x, num_queries, seen)
