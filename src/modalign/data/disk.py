"""Files written whole or not at all, digests of files, and the system's disk errors told in one line."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

from modalign.errors import ModalignError

_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file is too big",
}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_CHUNK_BYTES = 1 << 20


def disk_error(error: OSError, path: Path, doing: str) -> ModalignError:
    """The one-line error for a failed file operation; `doing` is a verb such as "write" or "read"."""
    number = error.errno or 0
    if number in _FULL:
        return ModalignError(f"cannot {doing} {path}: {_FULL[number]}; free some space or choose another folder")
    if number in _FORBIDDEN:
        return ModalignError(f"cannot {doing} {path}: {error.strerror}; choose a folder that you may {doing}")
    return ModalignError(f"cannot {doing} {path}: {error.strerror or error}")


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable (fsync of the directory)."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, data: bytes) -> None:
    """Replace `path` by `data`, or leave what was there; raises ModalignError where the disk refuses."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        sync_folder(path.parent)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise disk_error(error, path, "write") from error


def read_bytes(path: Path) -> bytes:
    """The content of a file; raises ModalignError in one line where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise disk_error(error, path, "read") from error


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's content, in hex, read in pieces."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise disk_error(error, path, "read") from error
    return digest.hexdigest()
