"""Decodes the samples of a slice on several cores at once, where their files are large enough to be worth it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")

# Below so many bytes a sample, what decoders do in Python, one thread at a time, outweighs what their libraries do.
LARGE_BYTES = 16 << 10


class Spread:
    """Maps over a slice's samples, in their order, with up to `threads` of them in work.

    In another process there is one thread: a loader's worker has a core of its own.
    """

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads
        self._pool: ThreadPoolExecutor | None = None

    def __reduce__(self) -> tuple[type[Spread], tuple[()]]:
        return Spread, ()

    def map(self, make: Callable[[Given], Made], given: Sequence[Given], num_bytes: int) -> list[Made]:
        """`make` of each; `num_bytes` is the size of all their files together."""
        if self.threads < 2 or num_bytes < LARGE_BYTES * len(given):
            return [make(one) for one in given]
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.threads, "decoding")
        return list(self._pool.map(make, given))
