"""How far a measured score can be trusted: intervals for proportions and for means, the same on every run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import NormalDist

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 1000
SEED = 20240


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
    n: int,
    statistic: Callable[[np.ndarray], float],
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> tuple[float, float]:
    """Percentile interval of a statistic over resampled items; `statistic` takes n indices drawn with replacement."""
    rng = np.random.Generator(np.random.PCG64(seed))
    drawn = [statistic(rng.integers(0, n, size=n)) for _ in range(resamples)]
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.asarray(drawn), [tail, 1 - tail])
    return float(low), float(high)


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
    return bootstrap(items.size, lambda index: float(items[index].mean()), confidence, resamples, seed)
