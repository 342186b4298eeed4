"""Depth maps: 16-bit PNG in millimetres to three equal channels, so that the visual tokenizer can read them."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from PIL import Image
from torch import Tensor

from modalign.data.decoders.image import Crop, open_picture, standardise
from modalign.data.decoders.settings import check_above_zero

_MM_PER_M = 1000


class DepthDecoder:
    """A depth map as [3, size_px, size_px]: metres over max_m, cut at 1, standardised, and repeated three times.

    `near_bright` turns the shares around, as maps of inverse depth (DPT's) look. Zero (no measurement) stays the
    nearest value without it, and becomes the farthest with it; `scale` turns random resized crops on.
    """

    def __init__(
        self,
        size_px: int,
        max_m: float,
        mean: float = 0.5,
        std: float = 0.25,
        near_bright: bool = False,
        scale: tuple[float, float] | None = None,
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
    ) -> None:
        check_above_zero("DepthDecoder", max_m=max_m, std=std)
        self.max_m, self.mean, self.std, self.near_bright = max_m, mean, std, near_bright
        self.crop = Crop(size_px, scale, ratio)

    @property
    def shape(self) -> tuple[int, ...]:
        """What every file becomes."""
        return 3, self.crop.size_px, self.crop.size_px

    def __call__(self, data: bytes, rng: Generator | None = None) -> Tensor:
        """Decode; raises ValueError where the bytes are no 16-bit grey picture."""
        picture = open_picture(data)
        if not picture.mode.startswith("I"):
            raise ValueError(f"a depth map is a 16-bit grey PNG in millimetres, not a picture of mode {picture.mode}")
        metres = np.asarray(picture).astype(np.float32) / _MM_PER_M
        shares = Image.fromarray(self._shares(metres))
        box = self.crop.box(*shares.size, rng)
        # Nearest, because a mean over an edge is a depth at which nothing stands.
        cut = np.asarray(self.crop.cut(shares, box, Image.Resampling.NEAREST), dtype=np.float32)
        return standardise(np.repeat(cut[:, :, None], 3, axis=2), (self.mean,), (self.std,))

    def _shares(self, metres: np.ndarray) -> np.ndarray:
        shares = np.clip(metres / self.max_m, 0, 1)
        return np.where(metres > 0, 1 - shares, 0).astype(np.float32) if self.near_bright else shares
