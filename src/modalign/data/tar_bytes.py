"""Random access to the bytes of a tar: on a disk by pread, far away by pieces that are kept for the next reads."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Protocol

from modalign.data.cache import DiskCache
from modalign.data.disk import disk_error
from modalign.data.manifest import Place, ShardEntry
from modalign.data.memory import MemoryCache
from modalign.data.remote import RemotePath
from modalign.errors import BadSample, ModalignError

try:  # the same numbers as zlib's, several times faster
    from isal.isal_zlib import crc32
except ImportError:
    from zlib import crc32

_MEMORY_BYTES = 256 << 20
_MEMORY: MemoryCache[str, bytes] = MemoryCache(_MEMORY_BYTES, len, newest_stays=True)


class TarBytes(Protocol):
    """An open tar."""

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on, fewer at the end; raises OSError where a disk fails."""

    def forget(self, offset: int, size: int) -> bool:
        """Drop what is kept of these bytes; whether anything was, so that reading again may give others."""

    def advise(self, offset: int, size: int) -> None:
        """Say that these bytes will be wanted soon."""

    def close(self) -> None:
        """Give the file back."""


class LocalTar:
    """A tar on a disk, or on a file system that looks like one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._descriptor = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise disk_error(error, path, "read") from error

    def __enter__(self) -> LocalTar:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    @property
    def size(self) -> int:
        """Bytes of the tar."""
        return os.fstat(self._descriptor).st_size

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on, fewer at the end."""
        return _pread(self._descriptor, offset, size)

    def forget(self, offset: int, size: int) -> bool:
        """Nothing is kept."""
        return False

    def advise(self, offset: int, size: int) -> None:
        """Have the system fetch them in one sequential read."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._descriptor, offset, size, os.POSIX_FADV_WILLNEED)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


class RemoteTar:
    """A tar behind a URL, read in aligned pieces of `piece_bytes` (0: whole, checked by SHA-256, which needs a cache).

    Pieces are kept in `cache`, or without one in memory shared by all tars of the process.
    """

    def __init__(self, place: RemotePath, entry: ShardEntry, cache: DiskCache | None, piece_bytes: int) -> None:
        if piece_bytes == 0 and cache is None:
            raise ModalignError("data.piece_mb=0 keeps whole shards: set data.shard_cache to a folder for them")
        self.place, self.entry, self.cache = place, entry, cache
        self.piece_bytes = piece_bytes or max(entry.bytes, 1)
        self.whole = piece_bytes == 0
        self._checked = False

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on, fewer at the end; raises ModalignError where the store fails."""
        end = min(offset + size, self.entry.bytes)
        parts = []
        while offset < end:
            number = offset // self.piece_bytes
            start = number * self.piece_bytes
            stop = min(end, start + self.piece_bytes)
            parts.append(self._piece(number, offset - start, stop - offset))
            offset = stop
        return b"".join(parts)

    def forget(self, offset: int, size: int) -> bool:
        """Drop the pieces that hold these bytes."""
        for number in range(offset // self.piece_bytes, (offset + max(size, 1) - 1) // self.piece_bytes + 1):
            if self.cache is not None:
                self.cache.forget(self._name(number))
            else:
                _MEMORY.forget(self._name(number))
        return True

    def advise(self, offset: int, size: int) -> None:
        """A piece is what is fetched."""

    def close(self) -> None:
        """Nothing is open."""

    def _piece(self, number: int, offset: int, size: int) -> bytes:
        start = number * self.piece_bytes
        length = min(self.piece_bytes, self.entry.bytes - start)
        if self.cache is None:
            kept = _MEMORY.get(self._name(number), lambda: self._fetched(start, length))
            return kept[offset : offset + size]

        def fetch(file: object) -> None:
            if self.whole:
                self.place.copy_to(file)  # type: ignore[arg-type]
            else:
                file.write(self._fetched(start, length))  # type: ignore[attr-defined]

        descriptor = self.cache.open(self._name(number), length, fetch)
        try:
            if self.whole and not self._checked:
                self._check(descriptor)
            return _pread(descriptor, offset, size)
        finally:
            os.close(descriptor)

    def _fetched(self, start: int, length: int) -> bytes:
        content = self.place.read_range(start, length)
        if len(content) != length:
            raise ModalignError(
                f"shard {self.place} ends after {start + len(content)} bytes, the manifest says {self.entry.bytes}: "
                f"copy it there again"
            )
        return content

    def _check(self, descriptor: int) -> None:
        """The SHA-256 of a whole shard, once a process; a copy that is not the manifest's is fetched anew, once."""
        import hashlib

        with os.fdopen(os.dup(descriptor), "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != self.entry.sha256:
                assert self.cache is not None
                self.cache.forget(self._name(0))
                raise ModalignError(
                    f"shard {self.place} is not what its manifest says (SHA-256 differs): the copy was removed; "
                    f"if it happens again, the shard has changed: index it again"
                )
        self._checked = True

    def _name(self, number: int) -> str:
        return f"{self.entry.sha256[:24]}-{self.piece_bytes}-{number}"


def read_member(tar: TarBytes, place: Place, key: str, extension: str, shard: str) -> bytes:
    """A member's bytes from an open tar; raises BadSample where they are not there or not what the index says."""
    offset, size, crc = place
    for turn in range(2):
        try:
            data = tar.read(offset, size)
        except OSError as error:
            raise BadSample(key, f".{extension} cannot be read from {shard}: {error.strerror}") from error
        if len(data) == size and crc32(data) == crc:
            return data
        if turn or not tar.forget(offset, size):
            break
    if len(data) < size:
        raise BadSample(key, f".{extension} ends after {len(data)} of {size} bytes in {shard}")
    raise BadSample(key, f".{extension} is damaged in {shard}: its CRC-32 is not the index's")


def _pread(descriptor: int, offset: int, size: int) -> bytes:
    pieces, done = [], 0
    while done < size and (piece := os.pread(descriptor, size - done, offset + done)):
        pieces.append(piece)
        done += len(piece)
    return b"".join(pieces)
