"""Which source slice number n comes from: a pure function of n, in exact proportion at the end of every cycle."""

from __future__ import annotations

import random
from collections.abc import Mapping
from fractions import Fraction

from modalign.curriculum.shares import cycle_length
from modalign.errors import ModalignError

MAX_CYCLE = 1_000_000
CACHED_CYCLES = 4


class SliceSchedule:
    """Maps slice n to (source, which occurrence of that source), the same on every rank, worker and restart.

    Within a cycle each source appears once in every equal stretch of it (so that none waits long), at a place in the
    stretch that the seed and the cycle's number decide.
    """

    def __init__(self, shares: Mapping[str, Fraction], seed: int) -> None:
        positive = {name: Fraction(share) for name, share in shares.items() if share > 0}
        if any(share < 0 for share in shares.values()) or sum(positive.values()) != 1:
            listing = ", ".join(f"{name}={share}" for name, share in shares.items()) or "none"
            raise ModalignError(f"shares of a schedule must be at least 0 and sum to exactly 1: got {listing}")
        self.seed = seed
        self.cycle = cycle_length(positive)
        if self.cycle > MAX_CYCLE:
            raise ModalignError(f"shares need a cycle of {self.cycle} slices, above {MAX_CYCLE}: use simpler weights")
        # By name, since their order decides what is drawn, and no identity knows in which order shares were written.
        self.per_cycle = {name: int(positive[name] * self.cycle) for name in sorted(positive)}
        self._orders: dict[int, list[tuple[str, int]]] = {}

    def at(self, n: int) -> tuple[str, int]:
        """The source of slice n, and how many slices of that source came before it."""
        if n < 0:
            raise IndexError(f"slice {n}")
        cycle, position = divmod(n, self.cycle)
        name, rank = self._order(cycle)[position]
        return name, cycle * self.per_cycle[name] + rank

    def counts(self, n: int) -> dict[str, int]:
        """Slices of each source among the first n."""
        cycles, rest = divmod(n, self.cycle)
        counts = {name: cycles * number for name, number in self.per_cycle.items()}
        if rest:
            for name, _ in self._order(cycles)[:rest]:
                counts[name] += 1
        return counts

    def _order(self, cycle: int) -> list[tuple[str, int]]:
        """The cycle's (source, rank) in order; kept for the few cycles that reading ahead touches."""
        if cycle not in self._orders:
            if len(self._orders) >= CACHED_CYCLES:
                self._orders.pop(next(iter(self._orders)))
            generator = random.Random(f"{self.seed}/{cycle}")
            places: list[tuple[float, str]] = []
            for name, number in self.per_cycle.items():
                places += [((rank + generator.random()) / number, name) for rank in range(number)]
            places.sort()
            ranks = dict.fromkeys(self.per_cycle, 0)
            order: list[tuple[str, int]] = []
            for _, name in places:
                order.append((name, ranks[name]))
                ranks[name] += 1
            self._orders[cycle] = order
        return self._orders[cycle]
