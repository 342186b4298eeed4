"""Checks of decoders' settings, made when a decoder is built and told in one line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from modalign.errors import ModalignError


def check_counts(owner: str, **settings: Any) -> None:
    """Raise ModalignError for a setting that is not a whole number of at least 1."""
    for name, value in settings.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ModalignError(f"{owner}: {name} must be a whole number of at least 1, not {value!r}")


def check_above_zero(owner: str, **settings: Any) -> None:
    """Raise ModalignError for a setting that is not a number above zero, or a list of such."""
    for name, value in settings.items():
        try:
            valid = bool((np.asarray(value, dtype=np.float64) > 0).all())
        except (TypeError, ValueError):
            valid = False
        if not valid:
            raise ModalignError(f"{owner}: {name} must be above zero, not {value!r}")


def per_channel(owner: str, name: str, values: float | Sequence[float], num_channels: int) -> np.ndarray:
    """One number for all channels, or one each, as float32 [num_channels]; raises ModalignError for another count."""
    array = np.asarray(values, dtype=np.float32).reshape(-1)
    if len(array) not in (1, num_channels):
        raise ModalignError(f"{owner}: {name} has {len(array)} values for {num_channels} channels")
    return np.broadcast_to(array, (num_channels,))
