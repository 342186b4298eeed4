"""Write samples as WebDataset shards with a manifest; the folder appears whole, or not at all."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from modalign.data.disk import disk_error, sync_folder
from modalign.data.index import index_tar
from modalign.data.manifest import (
    MANIFEST_NAME,
    ShardEntry,
    ShardIndex,
    SplitManifest,
    write_index,
    write_manifest,
)
from modalign.errors import ModalignError

LOCK_NAME = ".lock"
_KEY = re.compile(r"[^./\s][^.\s]{0,89}")
_EXTENSION = re.compile(r"[a-z0-9]+(\.[a-z0-9]+)*")


class ShardWriter:
    """A context manager that writes samples into `folder` as `shard-000000.tar` …, with an index each and a manifest.

    Everything is written into `<folder>.partial` and renamed at the end, so a killed writer leaves no half folder.
    The same samples give the same bytes. After the block, `manifest` tells what was written. Raises ModalignError where
    the folder holds something already, another process writes it, the disk refuses, or no sample was written.
    """

    def __init__(self, folder: Path | str, samples_per_shard: int = 1000) -> None:
        if samples_per_shard < 1:
            raise ModalignError(f"samples_per_shard must be at least 1, not {samples_per_shard}")
        self.folder = Path(folder)
        self.samples_per_shard = samples_per_shard
        self.num_samples = 0
        self.manifest: SplitManifest | None = None
        self._partial = self.folder.with_name(self.folder.name + ".partial")
        self._entries: list[ShardEntry] = []
        self._shard: ShardFile | None = None
        self._lock: int | None = None

    def __enter__(self) -> ShardWriter:
        if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise ModalignError(f"{self.folder} holds something already: remove it, or write to another folder")
        try:
            self._partial.mkdir(parents=True, exist_ok=True)
            self._lock = take_lock(self._partial)
            for leftover in self._partial.iterdir():
                if leftover.name != LOCK_NAME:
                    leftover.unlink()
        except OSError as error:
            raise disk_error(error, self._partial, "write") from error
        return self

    def write(self, key: str, members: Mapping[str, bytes]) -> None:
        """Add one sample: `members` maps extension to content.

        A key is unique within a shard and has neither a dot nor white space.
        """
        if self._lock is None:
            raise ModalignError(f"ShardWriter({self.folder}) writes only inside its with block")
        try:
            if self._shard is None:
                self._shard = ShardFile(self._partial / shard_name(len(self._entries)))
            self._shard.write(key, members)
        except OSError as error:
            raise disk_error(error, self._partial, "write") from error
        self.num_samples += 1
        if len(self._shard) == self.samples_per_shard:
            self._close()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            if kind is None:
                self._finish()
        except OSError as failure:
            raise disk_error(failure, self.folder, "write") from failure
        finally:
            self._abandon()

    def _close(self) -> None:
        if self._shard is not None:
            self._entries.append(write_index(self._partial, self._shard.close()))
            self._shard = None

    def _finish(self) -> None:
        self._close()
        if not self._entries:
            raise ModalignError(f"no sample to write into {self.folder}")
        self.manifest = write_manifest(self._partial, self._entries, [], None)
        os.replace(self._partial, self.folder)
        (self.folder / LOCK_NAME).unlink()
        sync_folder(self.folder.parent)

    def _abandon(self) -> None:
        """Remove what an unfinished write left, and give the lock back."""
        if self._shard is not None:
            self._shard.abandon()
        if self._partial.is_dir() and not (self._partial / MANIFEST_NAME).exists():
            shutil.rmtree(self._partial, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


class ShardFile:
    """One tar on its way to `path`; the same samples give the same bytes. Raises OSError where the disk refuses."""

    def __init__(self, path: Path) -> None:
        from webdataset.writer import TarWriter  # imports torch, which reading must not

        self.path = path
        self._keys: dict[str, None] = {}
        self._file = path.open("wb")
        self._tar = TarWriter(self._file, encoder=False, mtime=0)

    def __len__(self) -> int:
        return len(self._keys)

    def write(self, key: str, members: Mapping[str, bytes]) -> None:
        """Add one sample; raises ModalignError for one that would not read back."""
        if not _KEY.fullmatch(key) or key.startswith("__"):
            raise ModalignError(f"'{key}' is no sample key: 1 to 90 characters without dot, white space or leading __")
        if key in self._keys:
            raise ModalignError(f"sample {key} is written twice into {self.path.parent}")
        if not members:
            raise ModalignError(f"sample {key} has no members")
        for extension, content in members.items():
            if not _EXTENSION.fullmatch(extension):
                raise ModalignError(f"sample {key}: '{extension}' is no extension (lower-case letters and digits)")
            if not isinstance(content, bytes | bytearray):
                raise ModalignError(f"sample {key}: .{extension} must be bytes, not {type(content).__name__}")
        self._tar.write({"__key__": key, **members})
        self._keys[key] = None

    def close(self) -> ShardIndex:
        """Make the tar durable, read it back, and return its index."""
        self._tar.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        index = index_tar(self.path)
        if index.problems or [key for key, _ in index.samples] != list(self._keys):
            raise ModalignError(f"{self.path} does not read back as it was written: is the disk sound?")
        return index

    def abandon(self) -> None:
        """Close what will not be finished."""
        for held in (self._tar, self._file):  # an open stream of tar would write to the closed file when it is freed
            with suppress(OSError):  # what a full disk did not take is still in the buffer
                held.close()


def shard_name(number: int) -> str:
    """The name of a split's tar by number."""
    return f"shard-{number:06d}.tar"


def take_lock(folder: Path) -> int:
    """Keep other writers out of a folder until the returned descriptor is closed."""
    descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = os.read(descriptor, 32).decode() or "unknown"
        os.close(descriptor)
        raise ModalignError(f"another process (pid {owner}) is writing {folder}: wait for it or stop it") from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor
