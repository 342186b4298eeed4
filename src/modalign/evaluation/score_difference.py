"""How far one run's score is above another's, and whether that is more than other items could undo."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from modalign.evaluation.intervals import bootstrap_mean
from modalign.evaluation.scores import Score


@dataclass(frozen=True, slots=True)
class Difference:
    """The second run's score less the first's with its 95 % interval; `paired`: item by item."""

    value: float
    low: float
    high: float
    paired: bool

    @property
    def beyond(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0 or self.high < 0


def score_difference(first: Score, second: Score, same_items: bool) -> Difference:
    """Item by item where both kept their hits of the same items (a paired bootstrap), else from the two intervals.

    `same_items` says what is known where one of them keeps no digest of its items.
    """
    one, other = first.shares(), second.shares()
    known = first.items == second.items if first.items and second.items else same_items
    if known and one and len(one) == len(other):
        apart = [b - a for a, b in zip(one, other, strict=True)]
        return Difference(float(np.mean(apart)), *bootstrap_mean(apart), paired=True)
    # Newcombe 1998, method 10 (for any two intervals: Zou and Donner 2008).
    value = second.value - first.value
    down = math.hypot(second.value - second.low, first.high - first.value)
    up = math.hypot(second.high - second.value, first.value - first.low)
    return Difference(value, value - down, value + up, paired=False)
