"""Outputs of frozen parts kept on disk, one file a medium, under a name that is a digest of all they depend on."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from modalign.data.cache import DiskCache
from modalign.data.decoding import content_digest
from modalign.errors import ModalignError

_DIGEST_BYTES = 32
_SIZE_BYTES = 4
_DTYPES = {str(kind).removeprefix("torch."): kind for kind in (torch.float32, torch.bfloat16, torch.float16)}

log = logging.getLogger(__name__)


class FeatureStore:
    """Tensors by name in a folder of at most `max_bytes`, which any number of processes may share.

    The least recently used go first. A file appears whole or not at all; a damaged one is told and removed, and where
    the disk refuses to be written, that is told once and nothing more is kept.
    """

    def __init__(self, folder: Path | str, max_bytes: int) -> None:
        self.files = DiskCache(folder, max_bytes)
        self.refused = False

    def read(self, name: str) -> Tensor | None:
        """A kept tensor; None where there is none that is whole."""
        try:
            content = self.files.read(name)
        except ModalignError as error:
            log.warning("%s; the output is computed anew", error)
            return None
        if content is None:
            return None
        try:
            return unpack(name, content)
        except ValueError as error:
            log.warning("the kept output %s is damaged (%s): it is computed anew", self.files.folder / name, error)
            self.files.forget(name)
            return None

    def write(self, name: str, value: Tensor) -> None:
        """Keep a tensor under a name that stands for what it depends on; one that is there stays."""
        if self.refused:
            return
        try:
            self.files.write(name, pack(name, value))
        except ModalignError as error:
            self.refused = True
            log.warning("%s; training goes on and computes what is not kept", error)


@dataclass(frozen=True, slots=True)
class Shelf:
    """One modality's place in a store: `context`, a digest of all that its outputs depend on besides the medium.

    `reached` is what they are, features or soft tokens.
    """

    store: FeatureStore
    context: str
    reached: str

    def name(self, content: tuple[bytes, ...]) -> str:
        """What the output of a medium is kept under, by the bytes of its files."""
        return content_digest(content, bytes.fromhex(self.context)).hex()

    def find(self, name: str) -> Tensor | None:
        """A kept output."""
        return self.store.read(name)

    def keep(self, names: Sequence[str | None], outputs: Tensor) -> None:
        """Keep the outputs [N, L, D] of those of N media that have a name."""
        for name, output in zip(names, outputs, strict=True):
            if name is not None:
                self.store.write(name, output)


def pack(name: str, value: Tensor) -> bytes:
    """A tensor as a file: a digest of the name and of all that follows, then kind and shape, then the numbers."""
    kind = str(value.dtype).removeprefix("torch.")
    if kind not in _DTYPES:
        raise ModalignError(f"outputs of {kind} are not kept, only those of {', '.join(_DTYPES)}")
    header = json.dumps([kind, list(value.shape)]).encode()
    numbers = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    body = len(header).to_bytes(_SIZE_BYTES, "little") + header + numbers
    return _digest(name, body) + body


def unpack(name: str, content: bytes) -> Tensor:
    """The tensor that `pack` wrote under this name; raises ValueError where a bit of it is another."""
    digest, body = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if digest != _digest(name, body):
        raise ValueError(f"its {len(content)} bytes have another digest")
    begin = _SIZE_BYTES + int.from_bytes(body[:_SIZE_BYTES], "little")
    kind, shape = json.loads(body[_SIZE_BYTES:begin])
    return torch.frombuffer(bytearray(body[begin:]), dtype=_DTYPES[kind]).reshape(shape)


def _digest(name: str, body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_DIGEST_BYTES, key=name.encode()[:64]).digest()
