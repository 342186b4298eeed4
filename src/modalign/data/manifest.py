"""What a folder of shards says of itself: a manifest of the split, and for each tar an index of its samples."""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.dataclasses import dataclass

from modalign.data.cache import DiskCache
from modalign.data.disk import read_bytes, write_atomic
from modalign.data.memory import MemoryCache
from modalign.data.remote import RemotePath
from modalign.errors import ModalignError

MANIFEST_NAME = "manifest.json"
INDEX_SUFFIX = ".index.json"
_KEY_BYTES = 80  # a short string and its place in a list

Place = tuple[int, int, int]
"""Where a member lies in its tar: offset in bytes, size in bytes, CRC-32."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Problem(_Strict):
    """Something wrong or left out in a tar: where (shard, byte or key) and what."""

    shard: str
    where: str
    reason: str


class ShardIndex(_Strict):
    """The samples of one tar in order: key, and each member's place by extension."""

    shard: str
    bytes: int
    sha256: str
    samples: list[tuple[str, dict[str, Place]]]
    problems: list[Problem] = []


@dataclass(slots=True, config=ConfigDict(extra="forbid"))
class ShardEntry:
    """One tar in a split's manifest, and the digest of its index file; small, since there may be 100,000 of them."""

    name: str
    samples: int
    bytes: int
    sha256: str
    index_bytes: int
    index_sha256: str


class SplitManifest(_Strict):
    """A split: its shards in order, the number of samples, and a digest over all of it.

    `tars` is the folder of the tars where that is not the manifest's own (somebody else's WebDataset folder).
    """

    format: int = 1
    samples: int
    digest: str
    shards: list[ShardEntry]
    num_problems: int = 0
    problems: list[Problem] = []
    tars: str | None = None


def index_name(shard: str) -> str:
    """The name of the index file that belongs to a tar."""
    return shard.removesuffix(".tar") + INDEX_SUFFIX


def split_digest(shards: list[ShardEntry]) -> str:
    """SHA-256 over names, sample counts, sizes and digests of a split's tars, in hex."""
    digest = hashlib.sha256(b"[")
    for number, shard in enumerate(shards):
        meaning = json.dumps([shard.name, shard.samples, shard.bytes, shard.sha256])
        digest.update(f"{', ' if number else ''}{meaning}".encode())
    digest.update(b"]")
    return digest.hexdigest()


def write_index(folder: Path, index: ShardIndex) -> ShardEntry:
    """Write a tar's index beside the manifest and return the manifest's entry for it."""
    data = json.dumps(index.model_dump(), separators=(",", ":")).encode()
    write_atomic(folder / index_name(index.shard), data)
    return ShardEntry(
        name=index.shard,
        samples=len(index.samples),
        bytes=index.bytes,
        sha256=index.sha256,
        index_bytes=len(data),
        index_sha256=hashlib.sha256(data).hexdigest(),
    )


class SampleTable:
    """The samples of one tar, packed: 24 bytes a member beside the keys, since many such tables are open at a time."""

    __slots__ = ("_members", "keys")

    def __init__(self, samples: Sequence[tuple[str, dict[str, Place]]]) -> None:
        self.keys = [key for key, _ in samples]
        extensions = dict.fromkeys(extension for _, members in samples for extension in members)
        self._members = {extension: array("q", bytes(24 * len(samples))) for extension in extensions}
        for row, (_, members) in enumerate(samples):
            for extension in extensions:
                place = members.get(extension)
                self._members[extension][3 * row : 3 * row + 3] = array("q", (-1, 0, 0) if place is None else place)

    @property
    def nbytes(self) -> int:
        """About what it takes in memory."""
        return _KEY_BYTES * len(self.keys) + sum(8 * len(packed) for packed in self._members.values())

    def num_members(self) -> dict[str, int]:
        """How many samples have a member of each extension."""
        return {ext: sum(offset >= 0 for offset in packed[::3]) for ext, packed in self._members.items()}

    def places(self, row: int) -> dict[str, Place]:
        """Each member's place in the sample's own tar, by extension."""
        found = {}
        for extension, packed in self._members.items():
            offset, size, crc = packed[3 * row : 3 * row + 3]
            if offset >= 0:
                found[extension] = (offset, size, crc)
        return found


# Each phase opens the earlier ones' shards again: an index that was read is known by its digest.
_TABLES: MemoryCache[str, SampleTable] = MemoryCache(32 << 20, lambda table: table.nbytes, newest_stays=True)


def read_index(folder: Path | RemotePath, entry: ShardEntry, cache: DiskCache | None = None) -> SampleTable:
    """The samples of one tar from its index file; raises ModalignError where it was altered or truncated.

    Of a folder behind a URL, the file is kept in `cache`.
    """
    path = folder / index_name(entry.name)
    data = _cached_index(path, entry, cache) if isinstance(path, RemotePath) and cache is not None else read_file(path)
    if hashlib.sha256(data).hexdigest() != entry.index_sha256:
        if cache is not None:
            cache.forget(entry.index_sha256)
        raise ModalignError(f"{path} is not the file that {MANIFEST_NAME} describes (SHA-256 differs): index again")
    return _TABLES.get(entry.index_sha256, lambda: SampleTable(json.loads(data)["samples"]))


def _cached_index(path: RemotePath, entry: ShardEntry, cache: DiskCache) -> bytes:
    def fetch(file: BinaryIO) -> None:
        file.write(path.read_bytes())

    with os.fdopen(cache.open(entry.index_sha256, entry.index_bytes, fetch), "rb") as file:
        return file.read()


def read_file(path: Path | RemotePath) -> bytes:
    """The content of a file wherever it is; raises ModalignError in one line where it cannot be read."""
    return path.read_bytes() if isinstance(path, RemotePath) else read_bytes(path)


def write_manifest(folder: Path, shards: list[ShardEntry], problems: list[Problem], tars: str | None) -> SplitManifest:
    """Write a split's manifest, the last of its files; keeps the first twenty problems and the number of all."""
    manifest = SplitManifest(
        samples=sum(shard.samples for shard in shards),
        digest=split_digest(shards),
        shards=shards,
        num_problems=len(problems),
        problems=problems[:20],
        tars=tars,
    )
    text = json.dumps(manifest.model_dump(), indent=1)
    write_atomic(folder / MANIFEST_NAME, text.encode())
    return manifest


def read_manifest(folder: Path | RemotePath, hint: str = "") -> SplitManifest:
    """A split's manifest; raises ModalignError where the folder is missing, empty, not indexed, or the file is bad.

    `hint` is what the caller would do about missing data, such as the command that makes it. A manifest that has not
    changed since the last call is not read again: one of 100,000 shards takes seconds.
    """
    path = folder / MANIFEST_NAME
    if not path.is_file():
        raise _missing(folder, hint)
    if isinstance(path, RemotePath):
        return _parsed(path, path.stamp())
    status = path.stat()
    return _parsed(path, f"{status.st_mtime_ns} {status.st_size} {status.st_ino}")


@lru_cache(maxsize=64)
def _parsed(path: Path | RemotePath, stamp: str) -> SplitManifest:
    content = read_file(path)
    if _is_of_a_run(content):
        raise ModalignError(
            f"{path.parent} is a run, not a folder of shards; a run is checked by "
            f"`modalign inspect {path.parent} --step 1`"
        )
    try:
        manifest = SplitManifest.model_validate_json(content)
    except (ValueError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise ModalignError(f"{path} is damaged ({reason}): remove it and index the folder again") from error
    counted = sum(shard.samples for shard in manifest.shards)
    if counted != manifest.samples or split_digest(manifest.shards) != manifest.digest:
        raise ModalignError(f"{path} was altered: {manifest.samples} samples, {counted} in its shards; index again")
    return manifest


def _missing(folder: Path | RemotePath, hint: str) -> ModalignError:
    advice = f": {hint}" if hint else ""
    if not folder.exists():
        return ModalignError(f"no data at {folder}: the folder does not exist{advice}")
    if not folder.is_dir():
        return ModalignError(f"no data at {folder}: it is a file, not a folder of shards{advice}")
    tars = len(list(folder.glob("*.tar")))
    if tars:
        return ModalignError(f"{folder} holds {tars} tars but no {MANIFEST_NAME}: run `modalign index {folder}`")
    return ModalignError(f"no data at {folder}: the folder holds no shards{advice}")


def _is_of_a_run(content: bytes) -> bool:
    try:
        found = json.loads(content)
    except ValueError:
        return False
    return isinstance(found, dict) and "identity" in found
