"""Arrays as the bytes of files: shared by the sensors that store numbers or PNG."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

# zlib's run-length strategy: for noisy pixels as small as the default, in two thirds of the time.
_RUN_LENGTH = 3


def npy_bytes(array: np.ndarray) -> bytes:
    """The array as float32 in numpy's file format, without pickling."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array, np.float32), allow_pickle=False)
    return buffer.getvalue()


def png_bytes(pixels: np.ndarray) -> bytes:
    """PNG of uint8 [H, W, 3] or uint16 [H, W]."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1, compress_type=_RUN_LENGTH)
    return buffer.getvalue()
