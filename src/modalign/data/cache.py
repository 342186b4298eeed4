"""Files that can be made again, kept on a local disk: bounded in bytes, shared by all processes of a machine."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from modalign.data.disk import disk_error
from modalign.errors import ModalignError

_STRIPES = 256
_SPARE = 0.9
_STALE_S = 3600.0
_PART = ".part-"


class DiskCache:
    """Files below `folder`, together at most `max_bytes`; the least recently used go first.

    A file appears whole or not at all, is fetched by one process while others wait for it, and is fetched anew where
    its size is not what it should be. Any number of processes may share the folder.
    """

    def __init__(self, folder: Path | str, max_bytes: int) -> None:
        self.folder, self.max_bytes = Path(folder), max_bytes
        try:
            (self.folder / ".locks").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(error, self.folder, "write") from error

    def open(self, name: str, size: int, fetch: Callable[[BinaryIO], None]) -> int:
        """A descriptor of the file `name` of `size` bytes, which `fetch` writes where it is not there."""
        if size > self.max_bytes:
            raise ModalignError(
                f"the cache {self.folder} of {self.max_bytes / 1e9:g} GB cannot hold one piece of {size / 1e9:g} GB: "
                f"raise data.shard_cache_gb, or lower data.piece_mb"
            )
        path = self.folder / name
        try:
            if (found := _open(path, size)) is not None:
                return found
            with self._locked(f".locks/{zlib.crc32(name.encode()) % _STRIPES:03d}"):
                if (found := _open(path, size)) is not None:
                    return found
                self._reserve(size)
                self._fetch(path, fetch)
                found = _open(path, size)
        except OSError as error:
            raise disk_error(error, path, "write") from error
        if found is None:
            raise ModalignError(f"{name} was to be {size} bytes and is not: its shard has changed; index it again")
        return found

    def read(self, name: str) -> bytes | None:
        """The content of a file, which counts as used now; None where it is not there."""
        try:
            with open(self.folder / name, "rb") as file:
                content = file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise disk_error(error, self.folder / name, "read") from error
        with contextlib.suppress(OSError):
            os.utime(self.folder / name)
        return content

    def write(self, name: str, content: bytes) -> bool:
        """Keep a file of this content unless one of that name is there; False for one larger than the whole cache."""
        path = self.folder / name
        if len(content) > self.max_bytes:
            return False
        try:
            if not path.exists():
                self._reserve(len(content))
                self._fetch(path, partial(_fill, content))
        except OSError as error:
            raise disk_error(error, path, "write") from error
        return True

    def forget(self, name: str) -> None:
        """Remove a file, so that it is fetched anew."""
        with contextlib.suppress(OSError):
            os.unlink(self.folder / name)

    def _fetch(self, path: Path, fetch: Callable[[BinaryIO], None]) -> None:
        beside = path.with_name(f"{_PART}{os.getpid()}-{path.name}")
        try:
            with beside.open("wb") as file:
                fetch(file)
            os.replace(beside, path)
        except BaseException:
            with contextlib.suppress(OSError):
                beside.unlink()
            raise

    def _reserve(self, size: int) -> None:
        """Make room for `size` bytes; the number of bytes in use is counted in a file of its own."""
        with self._locked(".lock"):
            counter = self.folder / ".bytes"
            try:
                used = int(counter.read_text())
            except (OSError, ValueError):
                used = self.max_bytes  # unknown: counted below
            if used + size > self.max_bytes:
                used = self._evict(int((self.max_bytes - size) * _SPARE))
            counter.write_text(str(used + size))

    def _evict(self, target: int) -> int:
        """Remove the oldest files until at most `target` bytes are left; how many there are then."""
        files, now = [], time.time()
        with os.scandir(self.folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat()
                    if entry.name.startswith(_PART) and now - status.st_mtime > _STALE_S:
                        os.unlink(entry.path)
                    elif not entry.name.startswith("."):
                        files.append((status.st_mtime_ns, status.st_size, entry.path))
        used = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if used <= target:
                break
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            used -= size
        return used

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        descriptor = os.open(self.folder / name, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _open(path: Path, size: int) -> int | None:
    """A descriptor of a whole file, marked as used now; None where it is not there or of another size."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    if os.fstat(descriptor).st_size != size:
        os.close(descriptor)
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return descriptor


def _fill(content: bytes, file: BinaryIO) -> None:
    file.write(content)
