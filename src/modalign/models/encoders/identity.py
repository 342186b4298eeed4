"""No encoder: tokens go on as features, for tokenizers that need none."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


class NoEncoder(nn.Module):
    """Adds the positions, where there are any (their first row, the class token's, is unused)."""

    def forward(
        self, tokens: Float[Tensor, "N L D"], positions: Float[Tensor, "L1 D"] | None = None
    ) -> Float[Tensor, "N L D"]:
        """Tokens as they came, with their positions."""
        return tokens if positions is None else tokens + positions[1:]
