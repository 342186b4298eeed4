"""Exact shares: fractions that sum to one over a cycle short enough to be walked in full."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

from modalign.errors import ModalignError

MAX_DENOMINATOR = 1000


def equal_shares(names: tuple[str, ...], total: Fraction = Fraction(1)) -> dict[str, Fraction]:
    """`total` divided equally among `names`."""
    return {name: total / len(names) for name in names}


def weighted_shares(weights: Mapping[str, float]) -> dict[str, Fraction]:
    """Shares in proportion to `weights`; weight 0 leaves a source out, a negative or non-finite one is an error."""
    exact: dict[str, Fraction] = {}
    for name, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, (int, float, Fraction)) or not math.isfinite(weight):
            raise ModalignError(f"mixture weight of '{name}' is {weight!r}: it must be a finite number of at least 0")
        if weight < 0:
            raise ModalignError(f"mixture weight of '{name}' is {weight}: it must be at least 0")
        if weight > 0:
            exact[name] = weight if isinstance(weight, Fraction) else Fraction(repr(weight))
    if not exact:
        raise ModalignError(f"the mixture has no source of positive weight: got {dict(weights)}")
    return bounded(exact)


def bounded(proportions: Mapping[str, Fraction]) -> dict[str, Fraction]:
    """Proportions scaled to sum to exactly 1, over a common denominator of at most 1000.

    Kept exactly where that is possible; else rounded by largest remainder, where no source falls to nothing.
    """
    total = sum(proportions.values(), Fraction(0))
    shares = {name: value / total for name, value in proportions.items()}
    if cycle_length(shares) <= MAX_DENOMINATOR:
        return shares
    near = {name: share.limit_denominator(MAX_DENOMINATOR) for name, share in shares.items()}
    if sum(near.values()) == 1 and min(near.values()) > 0 and cycle_length(near) <= MAX_DENOMINATOR:
        return near
    return {name: Fraction(count, MAX_DENOMINATOR) for name, count in _largest_remainder(shares).items()}


def cycle_length(shares: Mapping[str, Fraction]) -> int:
    """The fewest slices over which every share is a whole number of them."""
    return math.lcm(*(share.denominator for share in shares.values()))


def _largest_remainder(shares: Mapping[str, Fraction]) -> dict[str, int]:
    """Whole counts that sum to the cycle; each source has at least one."""
    spare = MAX_DENOMINATOR - len(shares)
    if spare < 0:
        raise ModalignError(f"a mixture of {len(shares)} sources: at most {MAX_DENOMINATOR} can share one cycle")
    ideal = {name: share * MAX_DENOMINATOR for name, share in shares.items()}
    counts = {name: max(1, math.floor(value)) for name, value in ideal.items()}
    order = sorted(shares, key=lambda name: (counts[name] - ideal[name], -shares[name], name))
    missing = MAX_DENOMINATOR - sum(counts.values())
    for name in order[: max(0, missing)]:
        counts[name] += 1
    # Sources raised to one slice can overfill the cycle; the largest give those slices back.
    for _ in range(max(0, -missing)):
        counts[max(counts, key=lambda name: (counts[name], name))] -= 1
    return counts
