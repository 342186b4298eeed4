"""How the experts are mixed: one small MLP a modality gives each query token its weight of every expert.

Letters: N items, Q query tokens, D width, K experts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from modalign.errors import ModalignError, unknown_name

KINDS = ("soft", "sigmoid", "sparse", "constant")
OVER = ("query", "input")


@dataclass(frozen=True)
class RouterSettings:
    """`kind`: soft (softmax, the paper), sigmoid (divided by its sum, the released code), sparse (the top expert,
    times its softmax weight), constant (1 / K). `over`: query (as published: the same weights for every item) or
    input (pooled input features as well). `hidden`: the MLP's width, 0 for four times the projector's.
    """

    kind: str = "soft"
    over: str = "query"
    hidden: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown_name("router kind", self.kind, KINDS)
        if self.over not in OVER:
            raise unknown_name("router over", self.over, OVER)
        if self.hidden < 0:
            raise ModalignError(f"router hidden must be 0 (four times the width) or more, not {self.hidden}")


def constant_weights(queries: Float[Tensor, "N Q D"], num_experts: int) -> Float[Tensor, "N Q K"]:
    """The same weight for every expert."""
    return queries.new_full((*queries.shape[:2], num_experts), 1.0 / num_experts)


class Router(nn.Module):
    """Weights of the experts, by query token; they sum to one, but for `sparse`, where only the top one is left."""

    def __init__(self, width: int, num_experts: int, settings: RouterSettings) -> None:
        super().__init__()
        self.settings = settings
        inputs = width * (2 if settings.over == "input" else 1)
        hidden = settings.hidden or 4 * width
        self.fc1 = nn.Linear(inputs, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, num_experts)

    def forward(self, queries: Float[Tensor, "N Q D"], pooled: Float[Tensor, "N D"]) -> Float[Tensor, "N Q K"]:
        """Weights for the query tokens of each item, `pooled` being the mean of its valid inputs."""
        if self.settings.over == "input":
            scores = self._score(torch.cat([queries, pooled.unsqueeze(1).expand_as(queries)], dim=-1))
        else:
            # Without the inputs every item has the same weights: one row is enough.
            scores = self._score(queries[:1]).expand(queries.shape[0], -1, -1)
        if self.settings.kind == "sigmoid":
            weights = scores.sigmoid()
            return weights / weights.sum(dim=-1, keepdim=True)
        weights = scores.softmax(dim=-1)
        if self.settings.kind == "sparse":
            top = weights.argmax(dim=-1, keepdim=True)
            return weights * torch.zeros_like(weights).scatter(-1, top, 1.0)
        return weights

    def _score(self, rows: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(rows)))
