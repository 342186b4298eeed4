"""A tar reader that reports damage, because Python's tarfile stops silently at a damaged header."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

BLOCK_BYTES = 512
_CHUNK_BYTES = 1 << 20
_ZERO_BLOCK = bytes(BLOCK_BYTES)
_FILES = {b"0", b"\0", b"7"}
_SILENT = {b"5", b"g", b"K"}


class Hash(Protocol):
    """What hashlib's objects offer and the scan needs."""

    def update(self, data: bytes, /) -> None:
        """Take more bytes in."""


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file in a tar: where its content starts, how many bytes it has, and their CRC-32."""

    name: str
    offset: int
    size: int
    crc32: int


@dataclass(frozen=True, slots=True)
class Damage:
    """A place in a tar, in bytes, where something is wrong or left out."""

    offset: int
    reason: str


@dataclass(slots=True)
class _Header:
    name: str
    size: int
    kind: bytes


class _Stream:
    """Sequential reads that know their position and feed a digest."""

    def __init__(self, file: BinaryIO, digest: Hash) -> None:
        self.file, self.digest, self.position = file, digest, 0

    def read(self, size: int) -> bytes:
        data = self.file.read(size)
        self.digest.update(data)
        self.position += len(data)
        return data

    def checksum(self, size: int) -> tuple[int, int]:
        """CRC-32 of the next `size` bytes, and how many of them there were."""
        crc, left = 0, size
        while left and (data := self.read(min(left, _CHUNK_BYTES))):
            crc = zlib.crc32(data, crc)
            left -= len(data)
        return crc, size - left

    def pad(self, size: int) -> None:
        self.read(-size % BLOCK_BYTES)


def scan(file: BinaryIO, digest: Hash) -> Iterator[Member | Damage]:
    """Every file of a tar and every damage, in order; after a damaged header the next valid one is searched for.

    All bytes of `file` pass through `digest`. Links, devices and sparse files are reported, never followed.
    """
    stream, extended, ended = _Stream(file, digest), dict[str, str](), False
    while block := stream.read(BLOCK_BYTES):
        start = stream.position - len(block)
        if block == _ZERO_BLOCK:
            ended = True
            continue
        header = _parse(block)
        if header is None:
            yield Damage(start, "damaged header" if len(block) == BLOCK_BYTES else "truncated header")
            header = _resync(stream)
            if header is None:
                return
            extended = {}
        ended = False
        if header.kind in (b"L", b"x"):
            body = stream.read(header.size)
            stream.pad(header.size)
            extended |= _extended(header.kind, body)
            continue
        yield from _take(stream, header, extended)
        extended = {}
    if not ended:
        yield Damage(stream.position, "no end-of-archive mark: truncated")


def _take(stream: _Stream, header: _Header, extended: dict[str, str]) -> Iterator[Member | Damage]:
    name, offset = extended.get("path", header.name), stream.position
    size = int(extended["size"]) if extended.get("size", "").isdigit() else header.size
    crc, found = stream.checksum(size)
    if found < size:
        yield Damage(offset, f"{name} is truncated: {found} of {size} bytes")
        return
    stream.pad(size)
    if header.kind in _FILES and not name.endswith("/"):
        yield Member(name, offset, size, crc)
    elif header.kind not in _SILENT and header.kind not in _FILES:
        yield Damage(offset, f"{name} is left out: a link, device or sparse file ({header.kind!r})")


def _resync(stream: _Stream) -> _Header | None:
    while len(block := stream.read(BLOCK_BYTES)) == BLOCK_BYTES:
        if block[257:262] == b"ustar" and (header := _parse(block)) is not None:
            return header
    return None


def _parse(block: bytes) -> _Header | None:
    """The header in a block of 512 bytes, or None where its checksum or a number is wrong."""
    if len(block) < BLOCK_BYTES:
        return None
    size, checksum = _number(block[124:136]), _number(block[148:156])
    if size is None or checksum is None or size < 0:
        return None
    if checksum != sum(block[:148]) + 8 * 32 + sum(block[156:]):
        return None
    name = _text(block[0:100])
    if block[257:263] == b"ustar\0" and (prefix := _text(block[345:500])):
        name = f"{prefix}/{name}"
    return _Header(name, 0 if block[156:157] in (b"1", b"2", b"5") else size, block[156:157])


def _number(field: bytes) -> int | None:
    """An octal number, or GNU's base-256 for sizes of 8 GiB and more."""
    if field[0] & 0x80:
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    digits = field.split(b"\0")[0].strip()
    try:
        return int(digits, 8) if digits else 0
    except ValueError:
        return None


def _text(field: bytes) -> str:
    return field.split(b"\0")[0].decode("utf-8", "surrogateescape")


def _extended(kind: bytes, body: bytes) -> dict[str, str]:
    """What a GNU long-name or a pax header says of the next file: its path, its size."""
    if kind == b"L":
        return {"path": _text(body)}
    records: dict[str, str] = {}
    while body:
        length, _, _ = body.partition(b" ")
        if not length.isdigit() or int(length) <= len(length):
            break
        name, _, value = body[len(length) + 1 : int(length) - 1].partition(b"=")
        records[name.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        body = body[int(length) :]
    return records
