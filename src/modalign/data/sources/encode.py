"""One row of an array as the bytes of a file that the decoders read."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from modalign.errors import ModalignError


def encode_array(value: Any, extension: str, shape: Sequence[int] | None, rate_hz: int | None) -> bytes:
    """The row as the content of a file of that type; raises ValueError where the row cannot be one."""
    if value is None:
        raise ValueError("empty row")
    if isinstance(value, bytes):
        return value
    array = np.asarray(value)
    if shape is not None:
        array = array.reshape(tuple(shape))
    if array.dtype.kind not in "fiub":
        raise ValueError(f"rows of {array.dtype}, not numbers")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError("values that are not finite")
    kind = extension.rsplit(".", 1)[-1]
    if kind == "npy":
        return _npy(array)
    if kind == "png":
        return encode_png(array)
    if kind in ("flac", "wav"):
        return _sound(array, kind, rate_hz)
    raise ModalignError(f"make.extension: arrays are stored as npy, png, flac or wav, not {extension}")


def encode_png(array: np.ndarray) -> bytes:
    """uint8 [H, W] or [H, W, 3], or uint16 [H, W], as PNG; raises ValueError for anything else."""
    from PIL import Image

    grey = array.dtype in (np.uint8, np.uint16) and array.ndim == 2
    if not grey and not (array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3):
        raise ValueError(
            f"rows of {array.dtype} {list(array.shape)} are no PNG (uint8 [H, W] or [H, W, 3], uint16 [H, W])"
        )
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(file, format="PNG")
    return file.getvalue()


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(array), allow_pickle=False)
    return file.getvalue()


def _sound(array: np.ndarray, kind: str, rate_hz: int | None) -> bytes:
    import soundfile

    if rate_hz is None:
        raise ModalignError("make.rate_hz must be set, in Hz, to store arrays as sound")
    file = io.BytesIO()
    soundfile.write(file, array, rate_hz, format=kind.upper())
    return file.getvalue()
