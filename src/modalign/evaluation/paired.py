"""Two arms on the same items and seeds: the mean difference, and how far it can be trusted (a paired bootstrap)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from modalign.errors import ModalignError
from modalign.evaluation.intervals import CONFIDENCE, SEED

RESAMPLES = 2000
Items = Mapping[int, Mapping[str, Sequence[float]]]
"""By seed and score, each item's share that was right, in one order of items."""
Digests = Mapping[int, Mapping[str, str]]
"""By seed and score, which items they were (empty: not known)."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over scores, seeds and items with its interval; `by_seed` are the means of each seed."""

    value: float
    low: float
    high: float
    by_seed: Mapping[int, float]


def mean_of(items: Items, scores: Sequence[str]) -> Estimate | None:
    """The mean over `scores` (each counts alike), seeds and items; None where no seed has them all."""
    seeds = [seed for seed, found in items.items() if all(score in found for score in scores)]
    if not seeds or not scores:
        return None
    tables = []
    for score in scores:
        rows = [np.asarray(items[seed][score], dtype=np.float64) for seed in seeds]
        if len({len(row) for row in rows}) > 1 or not len(rows[0]):
            told = ", ".join(f"{len(row)} with seed {seed}" for seed, row in zip(seeds, rows, strict=True))
            raise ModalignError(f"{score} was measured on different items ({told}): measure those runs alike")
        tables.append(np.stack(rows))
    low, high = _interval(tables)
    by_seed = {seed: float(np.mean([table[row].mean() for table in tables])) for row, seed in enumerate(seeds)}
    return Estimate(float(np.mean([table.mean() for table in tables])), low, high, by_seed)


def difference(
    arm: Items, baseline: Items, scores: Sequence[str], known: tuple[Digests, Digests] = ({}, {})
) -> Estimate | None:
    """The arm's mean minus the baseline's, item by item and seed by seed, over the seeds that both have.

    ModalignError where their items are not the same ones, by their number or by what is `known` of both.
    """
    paired: dict[int, dict[str, list[float]]] = {}
    for seed in arm.keys() & baseline.keys():
        paired[seed] = {}
        for score in scores:
            if score not in arm[seed] or score not in baseline[seed]:
                continue
            left, right = arm[seed][score], baseline[seed][score]
            if len(left) != len(right):
                raise ModalignError(
                    f"{score}, seed {seed}: {len(left)} items in one arm, {len(right)} in the baseline: a paired "
                    f"comparison needs the same items (evaluation.num_items, world)"
                )
            one, other = (digests.get(seed, {}).get(score) for digests in known)
            if one and other and one != other:
                raise ModalignError(
                    f"{score}, seed {seed}: the arm was measured on other items than the baseline, though on as many: "
                    f"a paired comparison needs the same ones (a world of other settings, or other shards, have others)"
                )
            paired[seed][score] = [a - b for a, b in zip(left, right, strict=True)]
    return mean_of(dict(sorted(paired.items())), scores)


def _interval(tables: Sequence[np.ndarray]) -> tuple[float, float]:
    """Percentiles of the mean over resampled seeds (the same for all scores) and, by score, resampled items."""
    rng = np.random.Generator(np.random.PCG64(SEED))
    num_seeds = len(tables[0])
    seeds = rng.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), size=RESAMPLES) / num_seeds
    total = np.zeros(RESAMPLES)
    for table in tables:
        count = table.shape[1]
        items = rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES) / count
        total += np.einsum("rs,sn,rn->r", seeds, table, items, optimize=True)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(total / len(tables), [tail, 1 - tail])
    return float(low), float(high)
