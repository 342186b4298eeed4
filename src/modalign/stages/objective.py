"""What a stage minimises: weighted terms, each a sum over supervised units and how many there were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from modalign.types import Batch


@dataclass(frozen=True, slots=True)
class TermOutput:
    """A term on one micro-batch: `total` is a sum, so that ranks and accumulation add up; `count` divides it later."""

    total: Tensor
    count: Tensor


class Term(Protocol):
    """One weighted term; parts of the model run only if a term needs them."""

    @property
    def name(self) -> str:
        """What its loss is logged as."""

    @property
    def weight(self) -> float:
        """Its factor in the objective."""

    def __call__(self, model: Any, batch: Batch) -> TermOutput:
        """The term's sum and count on a micro-batch."""
        ...


@dataclass(frozen=True, slots=True)
class NextToken:
    """Cross entropy of the supervised tokens (paper, Eq. 3)."""

    name: str = "next_token"
    weight: float = 1.0

    def __call__(self, model: Any, batch: Batch) -> TermOutput:
        """Sum of weighted cross entropies in nats, and the sum of the weights."""
        output = model(batch)
        return TermOutput(output.loss_sum, output.weight_sum)
