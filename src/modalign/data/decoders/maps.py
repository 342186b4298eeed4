"""Two-dimensional maps stored as arrays (a ready spectrogram, a tactile image, radar): resized and standardised."""

from __future__ import annotations

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from modalign.data.decoders.arrays import read_array
from modalign.data.decoders.settings import check_above_zero, check_counts, per_channel


class MapDecoder:
    """A map, stored as .npy [H, W] or [H, W, C], as [channels, *size], resized bilinearly and standardised."""

    def __init__(
        self,
        size: tuple[int, int],
        channels: int = 1,
        mean: float | list[float] = 0.0,
        std: float | list[float] = 1.0,
    ) -> None:
        check_counts("MapDecoder", channels=channels, height=size[0], width=size[1])
        check_above_zero("MapDecoder", std=std)
        self.size, self.channels = tuple(size), channels
        self.mean, self.std = (
            per_channel("MapDecoder", name, values, channels) for name, values in (("mean", mean), ("std", std))
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """What every file becomes."""
        return self.channels, *self.size

    def __call__(self, data: bytes, rng: Generator | None = None) -> Tensor:
        """Decode; raises ValueError for another number of channels."""
        return self.fit(read_array(data, "map"))

    def fit(self, values: np.ndarray) -> Tensor:
        """An array [H, W] or [H, W, C] as the decoder's tensor."""
        values = values[:, :, None] if values.ndim == 2 else values
        if values.ndim != 3 or values.shape[2] != self.channels or not values.size:
            raise ValueError(f"a map must be [height, width, {self.channels}], not {list(values.shape)}")
        standard = np.ascontiguousarray(((values - self.mean) / self.std).transpose(2, 0, 1), dtype=np.float32)
        return resize(torch.from_numpy(standard), self.size)


def resize(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """[C, H, W] to [C, *size], bilinearly, smoothed where it shrinks."""
    if tuple(maps.shape[1:]) == tuple(size):
        return maps
    resized = torch.nn.functional.interpolate(maps[None], size=size, mode="bilinear", antialias=True)
    return resized[0]
