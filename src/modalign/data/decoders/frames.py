"""Stacks of maps over time (calcium imaging, radar sweeps, thermal video as arrays): frames at even distances."""

from __future__ import annotations

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from modalign.data.decoders.arrays import read_array
from modalign.data.decoders.maps import MapDecoder
from modalign.data.decoders.settings import check_counts


class FramesDecoder:
    """A stack, stored as .npy [T, H, W] or [T, H, W, C], as [num_frames, channels, *size], standardised.

    The middle frame of each of num_frames equal parts is taken; a shorter stack repeats frames.
    """

    def __init__(
        self,
        num_frames: int,
        size: tuple[int, int],
        channels: int = 1,
        mean: float | list[float] = 0.0,
        std: float | list[float] = 1.0,
    ) -> None:
        check_counts("FramesDecoder", num_frames=num_frames)
        self.num_frames, self.map = num_frames, MapDecoder(size, channels, mean, std)

    @property
    def shape(self) -> tuple[int, ...]:
        """What every file becomes."""
        return self.num_frames, *self.map.shape

    def __call__(self, data: bytes, rng: Generator | None = None) -> Tensor:
        """Decode; raises ValueError for bytes that are no stack or one of other channels."""
        stack = read_array(data, "stack of frames")
        if stack.ndim not in (3, 4) or not len(stack):
            raise ValueError(f"a stack must be [frames, height, width] or with channels, not {list(stack.shape)}")
        chosen = np.floor((np.arange(self.num_frames) + 0.5) * len(stack) / self.num_frames).astype(int)
        return torch.stack([self.map.fit(stack[number]) for number in chosen.tolist()])
