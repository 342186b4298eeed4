"""Signals over time (inertial sensors, electrodes, anything sampled evenly): brought to one length, standardised."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from modalign.data.decoders.arrays import read_array
from modalign.data.decoders.settings import check_above_zero, check_counts, per_channel
from modalign.errors import unknown_name

_MODES = ("pad", "at_most", "crop", "resample")


class SeriesDecoder:
    """A signal, stored as .npy or .csv [T, C], as [num_channels, num_steps], standardised by channel.

    `mode` says what happens to other lengths: "pad" puts zeros (after standardising) behind a short one and crops a
    long one, "at_most" refuses a long one instead, "crop" a short one, "resample" interpolates linearly. Crops are
    random with a generator where `random_crop`, else from the start.
    """

    def __init__(
        self,
        num_steps: int,
        num_channels: int,
        mean: float | list[float] = 0.0,
        std: float | list[float] = 1.0,
        mode: Literal["pad", "at_most", "crop", "resample"] = "pad",
        random_crop: bool = False,
    ) -> None:
        if mode not in _MODES:
            raise unknown_name("mode", mode, _MODES, "the series decoder")
        check_counts("SeriesDecoder", num_steps=num_steps, num_channels=num_channels)
        check_above_zero("SeriesDecoder", std=std)
        self.num_steps, self.num_channels, self.mode, self.random_crop = num_steps, num_channels, mode, random_crop
        self.mean, self.std = (
            per_channel("SeriesDecoder", name, values, num_channels) for name, values in (("mean", mean), ("std", std))
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """What every file becomes."""
        return self.num_channels, self.num_steps

    def __call__(self, data: bytes, rng: Generator | None = None) -> Tensor:
        """Decode; raises ValueError for another number of channels or a length that `mode` refuses."""
        series = read_array(data, "series")
        series = series[:, None] if series.ndim == 1 else series
        if series.ndim != 2 or series.shape[1] != self.num_channels or not len(series):
            raise ValueError(f"a series must be [steps, {self.num_channels}], not {list(series.shape)}")
        series = self._fit((series - self.mean) / self.std, rng)
        return torch.from_numpy(np.ascontiguousarray(series.T, dtype=np.float32))

    def length_change(self, data: bytes) -> tuple[str, str] | None:
        """What becomes of a file of another length, and why; None where that was asked for (crops, resampling)."""
        length = len(read_array(data, "series"))
        told = f"{length} steps where num_steps={self.num_steps}"
        if length < self.num_steps and self.mode in ("pad", "at_most"):
            return "padded with zeros", told
        if length > self.num_steps and self.mode == "pad" and not self.random_crop:
            return "cut", told
        return None

    def _fit(self, series: np.ndarray, rng: Generator | None) -> np.ndarray:
        length = len(series)
        if self.mode == "resample" and length != self.num_steps:
            places = np.linspace(0, length - 1, self.num_steps)
            return np.stack([np.interp(places, np.arange(length), channel) for channel in series.T], axis=1)
        if length < self.num_steps:
            if self.mode == "crop":
                raise ValueError(f"{length} steps are fewer than num_steps={self.num_steps}; mode=pad would take it")
            return np.pad(series, ((0, self.num_steps - length), (0, 0)))
        if self.mode == "at_most" and length > self.num_steps:
            raise ValueError(f"{length} steps are more than num_steps={self.num_steps}; mode=pad would cut them")
        start = 0
        if self.random_crop and rng is not None:
            start = int(rng.integers(length - self.num_steps + 1))
        return series[start : start + self.num_steps]
