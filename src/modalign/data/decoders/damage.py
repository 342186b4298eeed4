"""One kind of error for whatever a codec says of bytes that it cannot decode."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

_OBJECT = re.compile(r"\s*<_io\.\w+ object at 0x[0-9a-f]+>")  # where a codec names the file that it reads


@contextmanager
def undecodable(what: str) -> Iterator[None]:
    """Turn a codec's errors into ValueError with one line: not a readable `what`, and why."""
    try:
        yield
    except Exception as error:  # on damaged bytes codecs raise whatever they stumble over
        reason = _OBJECT.sub("", " ".join(str(error).split())).strip() or type(error).__name__
        raise ValueError(f"not a readable {what}: {reason}") from error


def finite(array: np.ndarray, what: str) -> np.ndarray:
    """The array as float32; raises ValueError where it is no array of finite numbers."""
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{what} holds {array.dtype}, not numbers")
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is found as not finite
        array = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(array).all():
        raise ValueError(f"{what} holds {int((~np.isfinite(array)).sum())} values that are not finite")
    return array
