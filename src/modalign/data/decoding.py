"""What is known of decoding: whether a result may stand for a second one, and whether it gave levels or numbers."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor

from modalign.types import Standard


class Watched:
    """A generator that remembers whether anything was drawn from it."""

    def __init__(self, generator: Any) -> None:
        self.generator = generator
        self.used = False

    def __getattr__(self, name: str) -> Any:
        self.used = True
        return getattr(self.generator, name)


def standard_of(decoder: Any, value: Tensor) -> Standard | None:
    """How what a decoder gave is standardised later, where it gave 8-bit levels."""
    return getattr(decoder, "standard", None) if value.dtype == torch.uint8 else None


def standardised(decoder: Any, value: Tensor) -> Tensor:
    """What a decoder gave as numbers around zero, for who mixes or changes them at once."""
    standard = standard_of(decoder, value)
    return value if standard is None else standard(value)


def length_change(decoder: Any, content: Any) -> tuple[str, str] | None:
    """What a decoder does to a medium that is not of the length it expects, and why, where it says so."""
    change = getattr(decoder, "length_change", None)
    return None if change is None else change(content)


def content_digest(members: tuple[bytes, ...], context: bytes = b"") -> bytes:
    """16 bytes that stand for what the members hold and where each ends, after a context of any fixed length."""
    state = hashlib.blake2b(context, digest_size=16)
    for member in members:
        state.update(len(member).to_bytes(8, "little"))
        state.update(member)
    return state.digest()
