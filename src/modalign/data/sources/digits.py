"""The handwritten digits that scikit-learn carries: 1797 real scans, captioned in words, needing no download."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping

import numpy as np

from modalign.data.sources.items import Dropped, Item
from modalign.data.sources.labels import DEFAULT_SPLITS, Labels
from modalign.data.sources.tables import need_package
from modalign.errors import ModalignError

DIGIT_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_INK = 16


class DigitsSource:
    """Scans of 8 x 8 pixels, enlarged to size_px, dark on light or light on dark as they come, as RGB PNG."""

    def __init__(
        self,
        size_px: int = 48,
        caption: str = "a handwritten {digit}",
        splits: Mapping[str, float] = DEFAULT_SPLITS,
        seed: int = 0,
    ) -> None:
        if size_px < 8:
            raise ModalignError(f"digits: size_px must be at least 8, not {size_px}")
        self.size_px = size_px
        self.labels = Labels(caption=caption, words={"digit": DIGIT_WORDS}, splits=splits, seed=seed)

    def __iter__(self) -> Iterator[Item | Dropped]:
        """All scans in scikit-learn's order."""
        try:
            from sklearn.datasets import load_digits
        except ImportError as error:
            raise need_package("scikit-learn", "the recipe digits") from error
        scans = load_digits()
        for number, (pixels, digit) in enumerate(zip(scans.images, scans.target, strict=True)):
            row = {"digit": int(digit)}
            record = self.labels.record(row, "digits")
            members = {"png": self._png(pixels), "json": json.dumps(record).encode()}
            yield self.labels.split_of(row, number, len(scans.target), "digits"), f"digit-{number:04d}", members

    def _png(self, pixels: np.ndarray) -> bytes:
        from PIL import Image

        grey = Image.fromarray(np.round(pixels * (255 / _INK)).astype(np.uint8))
        large = grey.resize((self.size_px, self.size_px), Image.Resampling.BICUBIC).convert("RGB")
        file = io.BytesIO()
        large.save(file, format="PNG")
        return file.getvalue()
