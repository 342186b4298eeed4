"""What decides whether a result may stand for a second decoding: the bytes, and whether anything random was drawn."""

from __future__ import annotations

import hashlib
from typing import Any


class Watched:
    """A generator that remembers whether anything was drawn from it."""

    def __init__(self, generator: Any) -> None:
        self.generator = generator
        self.used = False

    def __getattr__(self, name: str) -> Any:
        self.used = True
        return getattr(self.generator, name)


def content_digest(members: tuple[bytes, ...], context: bytes = b"") -> bytes:
    """16 bytes that stand for what the members hold and where each ends, after a context of any fixed length."""
    state = hashlib.blake2b(context, digest_size=16)
    for member in members:
        state.update(len(member).to_bytes(8, "little"))
        state.update(member)
    return state.digest()
