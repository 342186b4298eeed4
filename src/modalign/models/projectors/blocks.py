"""The block that an expert is made of: LLaMA's, but bidirectional and without rotary positions.

Letters: N items, L tokens, Q query tokens (they come first), D width.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from modalign.errors import ModalignError


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
        self, x: Float[Tensor, "N L D"], num_out: int, mask: Bool[Tensor, "N 1 1 L"] | None
    ) -> Float[Tensor, "N _ D"]:
        """What the first `num_out` tokens read from all tokens."""
        width = x.shape[-1]
        if num_out == x.shape[1]:
            query, key, value = self.qkv(x).chunk(3, dim=-1)
        else:
            query = F.linear(x[:, :num_out], self.qkv.weight[:width])
            key, value = F.linear(x, self.qkv.weight[width:]).chunk(2, dim=-1)
        read = F.scaled_dot_product_attention(self._heads(query), self._heads(key), self._heads(value), attn_mask=mask)
        return self.out(read.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class SwiGLU(nn.Module):
    """The gated feed-forward layer of LLaMA."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
        """silu(gate) * up, back to the width."""
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


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
        x = x[:, :count] + self.attention(self.attention_norm(x), count, mask)
        return x + self.feed(self.feed_norm(x))


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
