"""Index tars that exist already, so that any WebDataset folder can be read at random and its samples counted."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from modalign.data.disk import disk_error
from modalign.data.manifest import (
    MANIFEST_NAME,
    Place,
    Problem,
    ShardIndex,
    SplitManifest,
    write_index,
    write_manifest,
)
from modalign.data.tar import Damage, Member, scan
from modalign.errors import ModalignError

_NAME = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$")
_META = re.compile(r"(.*/)?__[^/]*__($|/)")


def split_name(name: str) -> tuple[str, str] | None:
    """Key and lower-case extension of a member by webdataset's rule (cut at the first dot), or None without one."""
    found = _NAME.match(name.removeprefix("./"))
    return (found.group(1), found.group(2).lower()) if found else None


def index_tar(path: Path) -> ShardIndex:
    """Read a tar once: its samples with every member's place, its SHA-256, and every problem met on the way.

    Files of one key are one sample wherever they lie in the tar; where others lie between them, that is reported.
    """
    grouping, digest = _Grouping(path.name), hashlib.sha256()
    try:
        with path.open("rb") as file:
            for item in scan(file, digest):
                grouping.take(item)
            size = file.tell()
    except OSError as error:
        raise disk_error(error, path, "read") from error
    samples = list(grouping.samples.items())
    return ShardIndex(
        shard=path.name, bytes=size, sha256=digest.hexdigest(), samples=samples, problems=grouping.problems
    )


def index_folder(folder: Path, into: Path | None = None, again: bool = False) -> SplitManifest:
    """Index every *.tar of `folder`, in name order, and write the split's manifest, the last of all files.

    `into` is the folder for index files and manifest where the tars' own must not be written; `again` replaces a
    manifest that is there. Raises ModalignError for a folder that is missing, holds no tar or no sample.
    """
    tars = _tars(folder)
    target = folder if into is None else into
    if (target / MANIFEST_NAME).exists() and not again:
        raise ModalignError(
            f"{target} is indexed already: run `modalign verify {target}` to check it, or index it again with --again"
        )
    entries, problems = [], []
    for path in tars:
        index = index_tar(path)
        problems += index.problems
        entries.append(write_index(target, index))
    if not sum(entry.samples for entry in entries):
        reason = f" (first problem: {problems[0].where}, {problems[0].reason})" if problems else ""
        raise ModalignError(f"{folder}: {len(tars)} tars hold not one sample{reason}: is this a WebDataset folder?")
    elsewhere = None if target.resolve() == folder.resolve() else str(folder.resolve())
    return write_manifest(target, entries, problems, elsewhere)


def _tars(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ModalignError(f"no folder to index at {folder}")
    tars = sorted(folder.glob("*.tar"))
    if tars:
        return tars
    packed = sorted([*folder.glob("*.tar.gz"), *folder.glob("*.tgz"), *folder.glob("*.tar.zst")])
    if packed:
        raise ModalignError(
            f"{folder}: {packed[0].name} is compressed, which forbids random access: unpack it to .tar, "
            "or stream it with data.reader=webdataset"
        )
    raise ModalignError(f"{folder} holds no *.tar: name the folder that holds the shards themselves")


class _Grouping:
    """Members of one tar by key, and what was odd about them."""

    def __init__(self, shard: str) -> None:
        self.shard = shard
        self.samples: dict[str, dict[str, Place]] = {}
        self.problems: list[Problem] = []
        self._last: str | None = None
        self._scattered: set[str] = set()

    def take(self, item: Member | Damage) -> None:
        if isinstance(item, Damage):
            self._report(f"byte {item.offset}", item.reason)
            return
        if _META.match(item.name):
            return
        named = split_name(item.name)
        if named is None:
            self._report(item.name, "left out: the name has no extension")
            return
        key, extension = named
        members = self.samples.get(key)
        if members is None:
            members = self.samples[key] = {}
        elif key != self._last and key not in self._scattered:
            self._scattered.add(key)
            self._report(key, "its files are not adjacent in the tar; they were joined")
        if extension in members:
            self._report(item.name, "left out: a second file of the same name")
        else:
            members[extension] = (item.offset, item.size, item.crc32)
        self._last = key

    def _report(self, where: str, reason: str) -> None:
        self.problems.append(Problem(shard=self.shard, where=where, reason=reason))
