"""One sample of a new sensor: its bytes, its shape, and what kind of thing it looks like."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from modalign.data.extensions import MEDIA_EXTENSIONS, check_media_extension
from modalign.errors import ModalignError

# What a file of each type may be taken for; of several the shape decides.
KINDS_OF = {
    "picture": ("image",),
    "video": ("frames",),
    "sound": ("sound",),
    "array": ("series", "map", "vector", "points", "frames"),
    "arrays": ("series", "map", "vector", "points", "frames"),
    "table of numbers": ("series", "map", "vector", "points"),
    "point cloud": ("points",),
}
KINDS = ("series", "map", "vector", "points", "frames", "image", "sound")
# A table of numbers with more columns than this is taken for a map, not for channels over time.
MAX_CHANNELS = 16
MAX_COLOURS = 4


@dataclass(frozen=True, slots=True)
class SampleFile:
    """A file that was read: `array` is its numbers where it holds any as such, `kind` what it is taken for."""

    path: Path
    extension: str
    data: bytes
    kind: str
    array: np.ndarray | None
    why: str


def read_sample(path: Path, kind: str | None) -> SampleFile:
    """The sample at `path`, taken for `kind` or for what its shape suggests; raises ModalignError."""
    extension = path.suffix[1:].lower()
    check_media_extension(extension, str(path))
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModalignError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from None
    possible = KINDS_OF[MEDIA_EXTENSIONS[extension]]
    if kind is not None and kind not in possible:
        raise ModalignError(f"--kind {kind}: a .{extension} file can be {' or '.join(possible)}")
    array = _numbers(path, extension, data) if len(possible) > 1 else None
    found, why = _guess(array) if array is not None else (possible[0], f"by its type, .{extension}")
    return SampleFile(path, extension, data, kind or found, array, "by --kind" if kind else why)


def _numbers(path: Path, extension: str, data: bytes) -> np.ndarray:
    from modalign.data.decoders.arrays import read_array

    try:
        return read_array(data, f".{extension}")
    except ValueError as error:
        raise ModalignError(f"{path} does not decode: {error}") from None


def _guess(array: np.ndarray) -> tuple[str, str]:
    """The kind that an array's shape suggests, and why."""
    shape = list(array.shape)
    if array.ndim == 1 or (array.ndim == 2 and len(array) == 1):
        return "vector", f"by its shape {shape}; a signal of one channel: --kind series"
    if array.ndim == 2 and shape[1] <= MAX_CHANNELS and shape[0] > shape[1]:
        return "series", f"by its shape {shape}, steps by channels; points in space: --kind points"
    if array.ndim == 2 and shape[0] <= MAX_CHANNELS:
        raise ModalignError(
            f"an array of shape {shape} looks like {shape[0]} channels over {shape[1]} steps, the wrong way round: "
            f"store it as [steps, channels] (its transpose), or say --kind map"
        )
    if array.ndim == 2:
        return "map", f"by its shape {shape}"
    if array.ndim == 3 and shape[2] <= MAX_COLOURS:
        return "map", f"by its shape {shape}, height by width by channels"
    if array.ndim in (3, 4):
        return "frames", f"by its shape {shape}, frames by height by width"
    raise ModalignError(f"an array of shape {shape} is none of: {', '.join(KINDS)}")
