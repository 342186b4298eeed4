"""What a folder of shards says of itself: a manifest of the split, and for each tar an index of its samples."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from modalign.data.disk import read_bytes, write_atomic
from modalign.errors import ModalignError

MANIFEST_NAME = "manifest.json"
INDEX_SUFFIX = ".index.json"

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


class ShardEntry(_Strict):
    """One tar in a split's manifest, and the digest of its index file."""

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
    meaning = [[shard.name, shard.samples, shard.bytes, shard.sha256] for shard in shards]
    return hashlib.sha256(json.dumps(meaning).encode()).hexdigest()


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


def read_index(folder: Path, entry: ShardEntry) -> list[tuple[str, dict[str, Place]]]:
    """The samples of one tar from its index file; raises ModalignError where it was altered or truncated."""
    path = folder / index_name(entry.name)
    data = read_bytes(path)
    if hashlib.sha256(data).hexdigest() != entry.index_sha256:
        raise ModalignError(f"{path} is not the file that {MANIFEST_NAME} describes (SHA-256 differs): index again")
    samples = json.loads(data)["samples"]
    return [(key, {extension: tuple(place) for extension, place in members.items()}) for key, members in samples]


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


def read_manifest(folder: Path, hint: str = "") -> SplitManifest:
    """A split's manifest; raises ModalignError where the folder is missing, empty, not indexed, or the file is bad.

    `hint` is what the caller would do about missing data, such as the command that makes it.
    """
    path = folder / MANIFEST_NAME
    if not path.is_file():
        raise _missing(folder, hint)
    try:
        content: Any = json.loads(read_bytes(path))
        manifest = SplitManifest.model_validate(content)
    except (ValueError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise ModalignError(f"{path} is damaged ({reason}): remove it and index the folder again") from error
    counted = sum(shard.samples for shard in manifest.shards)
    if counted != manifest.samples or split_digest(manifest.shards) != manifest.digest:
        raise ModalignError(f"{path} was altered: {manifest.samples} samples, {counted} in its shards; index again")
    return manifest


def _missing(folder: Path, hint: str) -> ModalignError:
    advice = f": {hint}" if hint else ""
    if not folder.exists():
        return ModalignError(f"no data at {folder}: the folder does not exist{advice}")
    if not folder.is_dir():
        return ModalignError(f"no data at {folder}: it is a file, not a folder of shards{advice}")
    tars = sorted(folder.glob("*.tar"))
    if tars:
        return ModalignError(f"{folder} holds {len(tars)} tars but no {MANIFEST_NAME}: run `modalign index {folder}`")
    return ModalignError(f"no data at {folder}: the folder holds no shards{advice}")
