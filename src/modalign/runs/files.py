"""Files that are either wholly there or not at all, and errors of the disk told in one line."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from modalign.errors import ModalignError

DISK_FULL = {errno.ENOSPC, errno.EDQUOT}
NOT_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR}


def write_atomic(path: Path, data: bytes) -> None:
    """Replace the file at `path` by `data`, on disk when this returns; where that fails the earlier file is kept."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with telling_errors(path):
            write_synced(temporary, data)
            os.replace(temporary, path)
            sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_synced(path: Path, data: bytes) -> None:
    """Write `data` to a new file at `path` and wait for the disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Wait until the names in `folder` are on disk; a renamed file is otherwise lost with the power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> Path:
    """The folder at `folder`, made with its parents where it is missing; ModalignError where it cannot be written."""
    folder = Path(folder)
    with telling_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def check_writable(folder: Path) -> None:
    """Make `folder` and write and remove one file in it, so that a run fails at its start and not at its first save."""
    folder = make_folder(folder)
    probe = folder / f".writable.{os.getpid()}.tmp"
    with telling_errors(folder):
        try:
            write_synced(probe, b"modalign")
        finally:
            if probe.exists():
                probe.unlink()


@contextlib.contextmanager
def telling_errors(path: Path) -> Iterator[None]:
    """Errors of the disk inside are told as a ModalignError of one line about `path`."""
    try:
        yield
    except OSError as error:
        raise told(error, Path(path)) from error


def told(error: OSError, path: Path) -> ModalignError:
    """What an error of the disk at `path` means and what to do about it, in one line."""
    reason = (error.strerror or str(error)).lower()
    if error.errno in DISK_FULL:
        return ModalignError(
            f"disk full while writing {path} ({_free(path)} left): what was saved before is intact; free space or set "
            f"paths.runs to another disk, then give the same command again to continue"
        )
    if error.errno in NOT_WRITABLE:
        return ModalignError(f"cannot write {path}: {reason}; make it writable or set paths.runs to another folder")
    return ModalignError(
        f"cannot write {path}: {reason}; check the disk and the folder (paths.runs, paths.data), then give the same "
        f"command again to continue"
    )


def _free(path: Path) -> str:
    """Free space of the disk that holds the nearest existing folder of `path`."""
    for folder in (path, *path.parents):
        with contextlib.suppress(OSError):
            return f"{shutil.disk_usage(folder).free / 1e6:.0f} MB"
    return "unknown space"
