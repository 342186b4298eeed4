"""Surface normals: an RGB picture whose colours are directions, black where there is no surface."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from PIL import Image
from torch import Tensor

from modalign.data.decoders.image import Crop, open_picture, standardise
from modalign.data.decoders.settings import check_above_zero


class NormalDecoder:
    """A normal map as [3, size_px, size_px]: x, y, z in -1..1, and zero where the pixel is black (no surface)."""

    def __init__(
        self,
        size_px: int,
        mean: tuple[float, float, float] = (0.0, 0.0, 0.0),
        std: tuple[float, float, float] = (1.0, 1.0, 1.0),
        scale: tuple[float, float] | None = None,
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
    ) -> None:
        check_above_zero("NormalDecoder", std=std)
        self.mean, self.std = tuple(mean), tuple(std)
        self.crop = Crop(size_px, scale, ratio)

    @property
    def shape(self) -> tuple[int, ...]:
        """What every file becomes."""
        return 3, self.crop.size_px, self.crop.size_px

    def __call__(self, data: bytes, rng: Generator | None = None) -> Tensor:
        """Decode; raises ValueError for bytes that are no picture."""
        picture = open_picture(data).convert("RGB")
        box = self.crop.box(*picture.size, rng)
        # Nearest, because a mean of two directions is the direction of neither surface.
        pixels = np.asarray(self.crop.cut(picture, box, Image.Resampling.NEAREST), dtype=np.float32)
        directions = np.where(pixels.any(axis=2, keepdims=True), pixels / 127.5 - 1, np.float32(0))
        return standardise(directions, self.mean, self.std)
