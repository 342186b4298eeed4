"""How far a measured score can be trusted: intervals for proportions and for means, the same on every run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 1000
SEED = 20240
_DRAWN_AT_ONCE = 1 << 20  # numbers


def wilson(successes: float, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's score interval of a proportion; (0, 1) where nothing was measured (n = 0)."""
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = successes / n
    scale = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / scale
    low = float(centre - half) if successes > 0 else 0.0
    high = float(centre + half) if successes < n else 1.0
    return low, high


def bootstrap(
    items: Sequence[Any] | np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray],
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> tuple[float, float]:
    """Percentile interval of what follows from sums over items that are drawn with replacement.

    `items` is (n,) or (n, k) numbers; `statistic` takes one row of k sums a resample, (r, k), and gives r values.
    """
    table = np.asarray(items, dtype=np.float64).reshape(len(items), -1)
    rng = np.random.Generator(np.random.PCG64(seed))
    drawn, at_once = [], max(1, _DRAWN_AT_ONCE // len(table))
    for first in range(0, resamples, at_once):
        drawn.append(statistic(_times_drawn(rng, len(table), min(at_once, resamples - first)) @ table))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(drawn), [tail, 1 - tail])
    return float(low), float(high)


def _times_drawn(rng: np.random.Generator, n: int, resamples: int) -> np.ndarray:
    """How often each item was drawn in each resample, (resamples, n)."""
    index = rng.integers(0, n, size=(resamples, n)) + n * np.arange(resamples)[:, None]
    return np.bincount(index.ravel(), minlength=resamples * n).reshape(resamples, n).astype(np.float64)


def bootstrap_mean(
    values: Sequence[float],
    share: bool = False,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> tuple[float, float]:
    """Percentile interval of the mean of items.

    A bootstrap of items that all agree has no width, which would claim certainty: for a `share` (values in 0..1)
    Wilson's interval stands in there.
    """
    items = np.asarray(values, dtype=np.float64)
    if items.size == 0:
        return (0.0, 1.0) if share else (0.0, 0.0)
    if share and np.ptp(items) == 0:
        return wilson(float(items.sum()), items.size, confidence)
    return bootstrap(items, lambda sums: sums[:, 0] / items.size, confidence, resamples, seed)
