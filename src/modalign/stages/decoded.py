"""Keeps decoded samples in memory where decoding is deterministic: a small set is decoded once, not each epoch."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from torch import Tensor

from modalign.data.decoding import Watched, content_digest


class DecodedCache:
    """Decoded tensors by the digest of their bytes, the oldest dropped beyond `max_bytes`; exact by construction.

    Any thread may use it; another process gets an empty one.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._kept: OrderedDict[tuple[int, bytes], Tensor] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[DecodedCache], tuple[int]]:
        return DecodedCache, (self.max_bytes,)

    def wrap(self, decoder: Any) -> Callable[..., Tensor]:
        """`decoder` with those of its results kept that drew nothing from its generator."""
        return _Cached(self, decoder) if self.max_bytes > 0 else decoder

    def get(self, key: tuple[int, bytes]) -> Tensor | None:
        """A kept tensor."""
        return self._kept.get(key)

    def put(self, key: tuple[int, bytes], value: Tensor) -> None:
        """Keep a tensor."""
        with self._lock:
            earlier = self._kept.pop(key, None)
            self._bytes -= 0 if earlier is None else earlier.nbytes
            self._kept[key] = value
            self._bytes += value.nbytes
            while self._bytes > self.max_bytes:
                _, oldest = self._kept.popitem(last=False)
                self._bytes -= oldest.nbytes


class _Cached:
    def __init__(self, cache: DecodedCache, decoder: Any) -> None:
        self.cache = cache
        self.decoder = decoder
        self.standard = getattr(decoder, "standard", None)

    def __call__(self, data: Any, rng: Any = None) -> Tensor:
        key = (id(self.decoder), content_digest(data if isinstance(data, tuple) else (data,)))
        value = self.cache.get(key)
        if value is None:
            watched = None if rng is None else Watched(rng)
            value = self.decoder(data, watched)
            if watched is not None and not watched.used:
                self.cache.put(key, value)
        return value
