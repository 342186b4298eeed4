"""Windows cut out of long recordings of an inertial sensor, brought to one rate: Ego4D's layout."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from modalign.data.sources.tables import Row, cell

_MAX_GAP_S = 1.0
_CHANNELS = ("accl_x", "accl_y", "accl_z", "gyro_x", "gyro_y", "gyro_z")


@dataclass(frozen=True)
class Window:
    """Which part of a series a row means: from `start` to `end` seconds, or `length_s` around the time in `at`.

    The recording is a .csv with a column of times in milliseconds and one for each of `channels`, or a .npy [channels,
    steps] beside which `<name>_timestamps.npy` holds the times; it becomes [steps, channels] at rate_hz.
    """

    rate_hz: float
    start: str | None = None
    end: str | None = None
    at: str | None = None
    length_s: float | None = None
    time: str = "canonical_timestamp_ms"
    channels: Sequence[str] = _CHANNELS

    def __post_init__(self) -> None:
        if (self.at is None or self.length_s is None) == (self.start is None or self.end is None):
            raise TypeError("a window is start and end, or at and length_s")

    def bounds(self, row: Row) -> tuple[float, float]:
        """Start and end in seconds; raises ValueError where the row has no times."""
        try:
            if self.at is not None and self.length_s is not None:
                middle = float(cell(row, self.at))
                start = max(0.0, middle - self.length_s / 2)
                return start, start + self.length_s
            return float(cell(row, str(self.start))), float(cell(row, str(self.end)))
        except (TypeError, ValueError) as error:
            raise ValueError("no time in the row") from error


def cut_window(root: Path, places: Sequence[str], bounds: tuple[float, float], window: Window) -> np.ndarray:
    """The window as float32 [steps, channels]; raises ValueError where no recording covers it."""
    found = next((place for place in places if (root / place).is_file()), None)
    if found is None:
        raise ValueError("the recording is missing")
    times, values = _recording(str(root / found), window.time, tuple(window.channels))
    start, end = bounds
    steps = round((end - start) * window.rate_hz)
    wanted = start + np.arange(steps) / window.rate_hz
    if steps < 1 or start < times[0] - _MAX_GAP_S or wanted[-1] > times[-1] + _MAX_GAP_S:
        raise ValueError("the recording does not cover the window")
    first, last = np.searchsorted(times, [start, end])
    around = times[max(first - 1, 0) : last + 1]
    if len(around) < 2 or np.diff(around).max() > _MAX_GAP_S:
        raise ValueError("the recording has a gap in the window")
    return np.stack([np.interp(wanted, times, channel) for channel in values.T], axis=1).astype(np.float32)


@lru_cache(maxsize=4)
def _recording(path: str, time: str, channels: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Times in seconds [steps], rising, and values [steps, channels] of a whole recording."""
    try:
        if path.endswith(".npy"):
            values = np.load(path, allow_pickle=False).T
            times = np.load(path.removesuffix(".npy") + "_timestamps.npy", allow_pickle=False) / 1000
        else:
            times, values = _read_csv(Path(path), time, channels)
    except KeyError as error:
        raise ValueError(f"the recording has no column {error}") from error
    except (OSError, ValueError, EOFError) as error:
        raise ValueError("the recording is not readable") from error
    order = np.argsort(times, kind="stable")
    times, values = times[order], values[order]
    if len(times) < 2 or values.shape != (len(times), len(channels)):
        raise ValueError("the recording is not readable")
    return times, values


def _read_csv(path: Path, time: str, channels: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Rows without a time are left out, single missing values count as zero (the rule of the published scripts)."""
    rows: list[list[float]] = []
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            moment: Any = row.get(time)
            if moment not in (None, "", "nan", "NaN"):
                rows.append([float(moment), *(_number(row[channel]) for channel in channels)])
    table = np.asarray(rows, dtype=np.float64).reshape(-1, 1 + len(channels))
    return table[:, 0] / 1000, table[:, 1:]


def _number(cell: str | None) -> float:
    value = float(cell) if cell else 0.0
    return value if np.isfinite(value) else 0.0
