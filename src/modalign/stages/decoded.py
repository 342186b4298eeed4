"""Keeps decoded samples in memory where decoding is deterministic: a small set is decoded once, not each epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from modalign.data.decoding import Watched, content_digest
from modalign.data.memory import MemoryCache


class DecodedCache(MemoryCache[tuple[int, bytes], Tensor]):
    """Decoded tensors by the digest of their bytes; exact by construction."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes, lambda value: value.nbytes)

    def __reduce__(self) -> tuple[type[DecodedCache], tuple[int]]:
        return DecodedCache, (self.max_bytes,)

    def wrap(self, decoder: Any) -> Callable[..., Tensor]:
        """`decoder` with those of its results kept that drew nothing from its generator."""
        return _Cached(self, decoder) if self.max_bytes > 0 else decoder


class _Cached:
    def __init__(self, cache: DecodedCache, decoder: Any) -> None:
        self.cache = cache
        self.decoder = decoder
        self.standard = getattr(decoder, "standard", None)

    def __call__(self, data: Any, rng: Any = None) -> Tensor:
        key = (id(self.decoder), content_digest(data if isinstance(data, tuple) else (data,)))
        value = self.cache.find(key)
        if value is None:
            watched = None if rng is None else Watched(rng)
            value = self.decoder(data, watched)
            if watched is not None and not watched.used:
                self.cache.put(key, value)
        return value
