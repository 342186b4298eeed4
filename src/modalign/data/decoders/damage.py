"""One kind of error for whatever a codec says of bytes that it cannot decode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def undecodable(what: str, *errors: type[Exception]) -> Iterator[None]:
    """Turn a codec's errors into ValueError with one line: not a readable `what`, and why."""
    try:
        yield
    except (ValueError, OSError, EOFError, *errors) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"not a readable {what}: {reason}") from error


def finite(array: np.ndarray, what: str) -> np.ndarray:
    """The array as float32; raises ValueError where it is no array of finite numbers."""
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{what} holds {array.dtype}, not numbers")
    array = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(array).all():
        raise ValueError(f"{what} holds {int((~np.isfinite(array)).sum())} values that are not finite")
    return array
