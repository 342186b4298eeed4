"""Vectors of measurements (voxels, gene counts, sensor readings): standardised, of any length."""

from __future__ import annotations

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from modalign.data.decoders.arrays import read_array
from modalign.data.decoders.settings import check_above_zero


class VectorDecoder:
    """A vector, stored as .npy or .csv, as [V], minus mean and over std; V may differ between a modality's variants.

    Several rows [R, V] (repeated measurements) are averaged, as OneLLM does with repeated scans; one column [V, 1], as
    a file with a value a line has, is a vector, unless `size`, which demands one V, is 1.
    """

    def __init__(self, mean: float = 0.0, std: float = 1.0, size: int | None = None) -> None:
        check_above_zero("VectorDecoder", std=std)
        self.mean, self.std, self.size = mean, std, size

    @property
    def shape(self) -> tuple[int, ...] | None:
        """What every file becomes; None where lengths differ."""
        return None if self.size is None else (self.size,)

    def __call__(self, data: bytes, rng: Generator | None = None) -> Tensor:
        """Decode; raises ValueError for bytes that are no vector or one of another size."""
        vector = read_array(data, "vector")
        if is_column(vector) and self.size != 1:
            vector = vector[:, 0]
        if vector.ndim == 2:
            vector = vector.mean(axis=0)
        if vector.ndim != 1 or not len(vector):
            raise ValueError(f"a vector must have one axis (or rows to average), not the shape {list(vector.shape)}")
        if self.size is not None and len(vector) != self.size:
            raise ValueError(f"{len(vector)} values where the decoder's size is {self.size}")
        return (torch.from_numpy(vector) - self.mean) / self.std


def is_column(array: np.ndarray) -> bool:
    """Whether it is one value a row, in several rows."""
    return array.ndim == 2 and array.shape[1] == 1 < len(array)
