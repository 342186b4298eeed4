"""Random access to the samples of a split's shards: one read a member, at the offset that the index gives."""

from __future__ import annotations

import os
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from modalign.data.cache import DiskCache
from modalign.data.manifest import Place, SampleTable, ShardEntry, SplitManifest, read_index, read_manifest
from modalign.data.remote import RemotePath, location
from modalign.data.tar_bytes import LocalTar, RemoteTar, TarBytes, read_member
from modalign.errors import ModalignError

_OPEN_SHARDS = 64
_ADVISED_BLOCKS = 4096
_MANY_SHARDS = 4096
PIECE_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class RawSample:
    """One sample as stored: its key, and the content of its members by extension."""

    key: str
    members: dict[str, bytes]


@dataclass(slots=True)
class _Shard:
    """A tar in use: its bytes and its index, read when first needed."""

    tar: TarBytes
    samples: SampleTable


class ShardReader:
    """Random access to a split; `reader.read(i)` for 0 <= i < len(reader), the same in any process.

    Opening checks that every tar is there with the manifest's size (of more than 4096 the size when each is first
    read); each read is checked by CRC-32. Reads that raise BadSample plus reads that succeed are always `len(reader)`.
    `read_ahead` is the number of samples which the system is asked to fetch in one go around the first touched of them
    (0: none). A folder behind a URL is read in pieces of `piece_bytes` (0: whole shards), kept in `cache`. `hint` ends
    the error for missing data.
    """

    def __init__(
        self,
        folder: Path | RemotePath | str,
        read_ahead: int = 256,
        hint: str = "",
        cache: DiskCache | None = None,
        piece_bytes: int = PIECE_BYTES,
    ) -> None:
        self.folder = location(folder)
        self.read_ahead, self.cache, self.piece_bytes = read_ahead, cache, piece_bytes
        self.manifest: SplitManifest = read_manifest(self.folder, hint)
        self.tars = location(self.manifest.tars) if self.manifest.tars else self.folder
        self._ends = array("q", accumulate(shard.samples for shard in self.manifest.shards))
        self._shards: OrderedDict[int, _Shard] = OrderedDict()
        self._advised: OrderedDict[tuple[int, int], None] = OrderedDict()
        self._check_tars()

    def __len__(self) -> int:
        return self.manifest.samples

    @property
    def digest(self) -> str:
        """SHA-256 over the split's tars, from the manifest, in hex."""
        return self.manifest.digest

    def key(self, index: int) -> str:
        """The key of sample `index`."""
        shard, row = self._locate(index)
        return self._open(shard).samples.keys[row]

    def read(self, index: int, extensions: Collection[str] | None = None) -> RawSample:
        """Sample `index`, all its members or those named; raises BadSample where the stored bytes are not readable."""
        number, row = self._locate(index)
        shard = self._open(number)
        key, places = shard.samples.keys[row], shard.samples.places(row)
        self._advise(number, shard, row)
        wanted = places if extensions is None else {name: places[name] for name in extensions if name in places}
        name = self.manifest.shards[number].name
        return RawSample(key, {ext: read_member(shard.tar, place, key, ext, name) for ext, place in wanted.items()})

    def close(self) -> None:
        """Close the files; the next read opens them again."""
        for shard in self._shards.values():
            shard.tar.close()
        self._shards.clear()

    def __del__(self) -> None:
        if hasattr(self, "_shards"):
            self.close()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_shards": OrderedDict(), "_advised": OrderedDict()}

    def _locate(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)} in {self.folder}")
        shard = bisect_right(self._ends, index)
        return shard, index - (self._ends[shard - 1] if shard else 0)

    def _open(self, number: int) -> _Shard:
        if number in self._shards:
            self._shards.move_to_end(number)
            return self._shards[number]
        entry = self.manifest.shards[number]
        samples = read_index(self.folder, entry, self.cache)
        self._shards[number] = _Shard(self._tar(entry), samples)
        if len(self._shards) > _OPEN_SHARDS:
            _, oldest = self._shards.popitem(last=False)
            oldest.tar.close()
        return self._shards[number]

    def _tar(self, entry: ShardEntry) -> TarBytes:
        place = self.tars / entry.name
        if isinstance(place, RemotePath):
            return RemoteTar(place, entry, self.cache, self.piece_bytes)
        tar = LocalTar(place)
        if tar.size != entry.bytes:
            tar.close()
            raise self._altered(place, tar_bytes=place.stat().st_size, entry=entry)
        return tar

    def _advise(self, number: int, shard: _Shard, row: int) -> None:
        """Ask for the whole block of samples around `row`: one sequential read in place of many small."""
        if self.read_ahead < 1:
            return
        block = (number, row // self.read_ahead)
        if block in self._advised:
            return
        self._advised[block] = None
        if len(self._advised) > _ADVISED_BLOCKS:
            self._advised.popitem(last=False)
        first = block[1] * self.read_ahead
        last = min(first + self.read_ahead, len(shard.samples.keys)) - 1
        start = min(place[0] for place in shard.samples.places(first).values())
        end = max(place[0] + place[1] for place in shard.samples.places(last).values())
        if end > start:
            shard.tar.advise(start, end - start)

    def _check_tars(self) -> None:
        """One listing for all names; sizes from it where a store tells, else by asking for each of not too many."""
        if isinstance(self.tars, RemotePath):
            sizes = self.tars.sizes()
            if sizes is None:
                return
        else:
            names = set(os.listdir(self.tars)) if self.tars.is_dir() else set()
            many = len(self.manifest.shards) > _MANY_SHARDS
            sizes = {
                entry.name: entry.bytes if many else (self.tars / entry.name).stat().st_size
                for entry in self.manifest.shards
                if entry.name in names
            }
        for entry in self.manifest.shards:
            place = self.tars / entry.name
            if entry.name not in sizes:
                raise ModalignError(f"shard {place} is gone: the manifest lists {entry.samples} samples in it")
            if sizes[entry.name] != entry.bytes:
                raise self._altered(place, sizes[entry.name], entry)

    def _altered(self, place: Path | RemotePath, tar_bytes: int, entry: ShardEntry) -> ModalignError:
        state = "truncated" if tar_bytes < entry.bytes else "altered"
        return ModalignError(
            f"shard {place} is {state}: {tar_bytes} bytes, the manifest says {entry.bytes}; "
            f"run `modalign verify {self.folder}`, then make or fetch it again"
        )


__all__ = ["PIECE_BYTES", "Place", "RawSample", "ShardReader", "read_member"]
