"""Places in object stores and on servers, by URL through fsspec, with what reading shards needs of a path."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from modalign.errors import ModalignError

log = logging.getLogger(__name__)

SCHEMES = ("abfs", "az", "file", "gcs", "gs", "hf", "http", "https", "memory", "s3")
_SCHEME = re.compile(r"^([a-zA-Z][a-zA-Z0-9+.\-]*)://")
_TRIES = 4
_WAIT_S = 0.5
_CHUNK_BYTES = 1 << 22
_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, ImportError, ValueError)
T = TypeVar("T")


def location(place: Path | RemotePath | str) -> Path | RemotePath:
    """A folder on disk, or a place behind a URL; raises ModalignError for a scheme that is not read from."""
    if not isinstance(place, str):
        return place
    if "://" not in place:
        return Path(place)
    scheme = _SCHEME.match(place)
    if scheme is None or scheme.group(1).lower() not in SCHEMES or "::" in place:
        raise ModalignError(f"'{place[:80]}' is refused: shards are read from {', '.join(SCHEMES)} or a path")
    return RemotePath(place)


class RemotePath:
    """A URL that joins, lists and reads like a path; every failure is a ModalignError in one line.

    What fails in passing (a connection, a busy server) is tried again a few times before that.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def __truediv__(self, name: str) -> RemotePath:
        return RemotePath(f"{self.url}/{name}")

    def __str__(self) -> str:
        return self.url

    def __repr__(self) -> str:
        return f"RemotePath('{self.url}')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and other.url == self.url

    def __hash__(self) -> int:
        return hash(self.url)

    @property
    def name(self) -> str:
        """The last part."""
        return self.url.rpartition("/")[2]

    @property
    def parent(self) -> RemotePath:
        """All but the last part."""
        return RemotePath(self.url.rpartition("/")[0])

    def exists(self) -> bool:
        """Whether there is something."""
        return bool(self._call("look for", lambda system, path: system.exists(path)))

    def is_file(self) -> bool:
        """Whether there is an object."""
        return bool(self._call("look for", lambda system, path: system.isfile(path)))

    def is_dir(self) -> bool:
        """Whether there is something below."""
        return bool(self._call("look for", lambda system, path: system.isdir(path)))

    def glob(self, pattern: str) -> Iterator[RemotePath]:
        """Objects below that fit a pattern."""
        root = self.url.partition("://")[0]
        for found in self._call("list", lambda system, path: sorted(system.glob(f"{path}/{pattern}"))):
            name = str(found)
            yield RemotePath(name if "://" in name else f"{root}://{name.lstrip('/') if root != 'file' else name}")

    def stamp(self) -> str:
        """What changes when the object does: its size, and its tag or time where the store tells."""
        info = self._call("look at", lambda system, path: system.info(path))
        known = ("size", "ETag", "etag", "md5Hash", "LastModified", "mtime", "created", "updated")
        return repr([str(info[key]) for key in known if info.get(key) is not None])

    def sizes(self) -> dict[str, int] | None:
        """Bytes of each object directly below, by name, or None where the store does not list."""
        try:
            listing = self._call("list", lambda system, path: system.ls(path, detail=True))
        except ModalignError as error:
            if self.url.startswith("http"):
                return None
            raise error
        if any(entry.get("size") is None for entry in listing if entry.get("type") != "directory"):
            return None
        return {str(entry["name"]).rpartition("/")[2]: int(entry["size"] or 0) for entry in listing}

    def size(self) -> int:
        """Bytes of the object."""
        return int(self._call("look at", lambda system, path: system.info(path))["size"])

    def read_bytes(self) -> bytes:
        """The whole object."""
        return self._call("read", lambda system, path: bytes(system.cat_file(path)))

    def read_range(self, start: int, size: int) -> bytes:
        """`size` bytes from `start` on, fewer at the object's end."""
        return self._call("read", lambda system, path: bytes(system.cat_file(path, start=start, end=start + size)))

    def copy_to(self, file: BinaryIO) -> None:
        """Write the whole object into an open file, in pieces."""
        for start in range(0, self.size(), _CHUNK_BYTES):
            file.write(self.read_range(start, _CHUNK_BYTES))

    def _call(self, doing: str, action: Callable[[Any, str], T]) -> T:
        for turn in range(_TRIES):
            try:
                system, path = _system(self.url)
                return action(system, path)
            except Exception as error:  # each file system of fsspec raises what its network library raises
                if turn == _TRIES - 1 or isinstance(error, _FINAL):
                    raise _told(error, doing, self.url) from error
                log.warning("%s: %s; trying again", self.url, _first_line(error))
                time.sleep(_WAIT_S * 2**turn)
        raise AssertionError("the last turn returns or raises")


def _system(url: str) -> tuple[Any, str]:
    """The file system of a URL (fsspec keeps one a process, also after a fork) and the path in it."""
    from fsspec.core import url_to_fs

    return url_to_fs(url, use_listings_cache=False)


def _told(error: Exception, doing: str, url: str) -> ModalignError:
    scheme = url.partition("://")[0]
    if isinstance(error, FileNotFoundError):
        return ModalignError(f"cannot {doing} {url}: there is nothing")
    if isinstance(error, PermissionError):
        return ModalignError(f"cannot {doing} {url}: access is refused; are the credentials of {scheme}:// set?")
    if isinstance(error, ImportError):
        return ModalignError(f"{scheme}:// needs another package ({_first_line(error)}): pip install 'modalign[cloud]'")
    return ModalignError(f"cannot {doing} {url}: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
