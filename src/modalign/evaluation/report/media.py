"""One medium of a sample as a person would want it: the file's kind and the array's shape choose how it is shown."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from modalign.errors import unknown_name
from modalign.evaluation.report import arrays, cloud, pictures, sound
from modalign.evaluation.report.page import text
from modalign.evaluation.report.phrases import size
from modalign.evaluation.report.tint import data_url

MAX_INLINE_BYTES = 12_000_000

_PICTURES = {"jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff"}
_VIDEOS = {"mp4", "webm", "mov", "mkv", "avi"}
_SOUNDS = {"flac", "wav", "mp3", "ogg"}
_CLOUDS = {"ply"}
_ARRAYS = {"npy", "npz", "csv"}

_SERIES_CHANNELS = 32


@dataclass(frozen=True, slots=True)
class Medium:
    """A file to be shown, with what the sample says of it: a `display` by name, and facts for its axes.

    Facts that are used, where given: `rate_hz`, `channels` (names) and `units` (one a channel, or one for all) of a
    series; `unit_m` of a depth picture (metres a count, 0.001 by default); `unit` of an array's values.
    """

    name: str
    file: Path
    display: str | None = None
    axes: Mapping[str, Any] = field(default_factory=dict)


def show(medium: Medium) -> str:
    """The medium as HTML; a file that cannot be shown becomes a note with the reason and, where it is there, a link."""
    try:
        data = medium.file.read_bytes()
    except OSError as error:
        return _figure(medium, f'<p class="warn">{text(medium.file.name)}: {text(error.strerror)}</p>')
    try:
        return _figure(medium, DISPLAYS[display_of(medium, data)](medium.file.name, data, medium.axes))
    except Exception as error:  # decoders raise anything on damaged bytes, and one file must not cost the page
        note = f'<p class="warn">cannot be shown: {text(error)}</p>'
        return _figure(medium, note + link(medium.file.name, data, medium.axes))


def display_of(medium: Medium, data: bytes) -> str:
    """The name of the display: the sample's own choice, else by extension, else by the shape of the array."""
    if medium.display is not None:
        if medium.display not in DISPLAYS:
            raise unknown_name("display", medium.display, DISPLAYS, f"sample file {medium.file.name}")
        return medium.display
    extension = medium.file.suffix.removeprefix(".").lower()
    if extension in _PICTURES:
        return "depth" if Image.open(io.BytesIO(data)).mode.startswith("I") else "picture"
    if extension in _VIDEOS:
        return "video"
    if extension in _SOUNDS:
        return "audio"
    if extension in _CLOUDS:
        return "points"
    return array_display(arrays.load(medium.file.name, data)) if extension in _ARRAYS else "file"


def array_display(values: np.ndarray) -> str:
    """How an array is shown: [V] vector, [T, C] series, [P, 6] with colours in 0..1 (or 0..255) points, [H, W] map …

    A point cloud without colours has the shape of a series of three channels and is taken for one: name its display.
    """
    shape = values.shape
    if values.ndim == 1:
        return "vector"
    if values.ndim == 2 and shape[1] == 6 and _are_colours(values[:, 3:]):
        return "points"
    if values.ndim == 2:
        return "series" if shape[1] <= _SERIES_CHANNELS and shape[0] > shape[1] else "map"
    if values.ndim == 3:
        return "map" if shape[0] <= 4 or shape[2] <= 4 else "frames"
    return "frames" if values.ndim == 4 else "file"


def link(name: str, data: bytes, axes: Mapping[str, Any]) -> str:
    """A link that saves the file, held in the page; only its name and size where it is too large for that."""
    if len(data) > MAX_INLINE_BYTES:
        return f"<p>{text(name)} ({size(len(data))}, too large for this page: see the run's folder)</p>"
    url = data_url(data, "application/octet-stream")
    return f'<p><a download="{text(name)}" href="{url}">{text(name)}</a> ({size(len(data))})</p>'


def _are_colours(values: np.ndarray) -> bool:
    low, high = float(values.min()), float(values.max())
    return low >= 0 and (high <= 1 or (high <= 255 and bool(np.all(values == np.round(values)))))


def _figure(medium: Medium, html: str) -> str:
    return f'<div class="medium"><div class="caption">{text(medium.name)}</div>{html}</div>'


Display = Callable[[str, bytes, Mapping[str, Any]], str]

DISPLAYS: dict[str, Display] = {
    "picture": pictures.picture,
    "depth": pictures.depth,
    "video": pictures.video,
    "audio": sound.audio,
    "points": cloud.points,
    "series": arrays.series,
    "vector": arrays.vector,
    "map": arrays.channels_map,
    "frames": arrays.frames,
    "file": link,
}
