"""Random structure and noise of sensors: shared by those that see pixels and those that hear."""

from __future__ import annotations

import numpy as np

from modalign.world.sensors.silhouettes import SIZE_PX

_COARSE = {
    cells: np.maximum(0, 1 - np.abs(np.linspace(0, cells - 1, SIZE_PX)[:, None] - np.arange(cells))).astype(np.float32)
    for cells in (4, 7)
}


def smooth_field(rng: np.random.Generator, cells: int, channels: int) -> np.ndarray:
    """Smooth random texture [48, 48, channels] of unit scale: a coarse grid of `cells` (4 or 7), interpolated."""
    spread = _COARSE[cells]
    coarse = rng.standard_normal((channels, cells, cells), dtype=np.float32)
    return np.moveaxis(spread @ coarse @ spread.T, 0, -1)


def grain(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Sensor noise of mean 0 and variance 1, float32; uniform, because that is four times faster than normal."""
    return (rng.random(shape, dtype=np.float32) - np.float32(0.5)) * np.float32(12**0.5)
