"""Random access to the samples of a split's shards: one pread a member, at the offset that the index gives."""

from __future__ import annotations

import os
import zlib
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from modalign.data.disk import disk_error
from modalign.data.manifest import Place, SplitManifest, read_index, read_manifest
from modalign.errors import BadSample, ModalignError

_OPEN_SHARDS = 64
_ADVISED_BLOCKS = 4096


@dataclass(frozen=True, slots=True)
class RawSample:
    """One sample as stored: its key, and the content of its members by extension."""

    key: str
    members: dict[str, bytes]


@dataclass(slots=True)
class _Shard:
    """A tar in use: its file descriptor and its index, read when first needed."""

    descriptor: int
    samples: list[tuple[str, dict[str, Place]]]


class ShardReader:
    """Random access to a split; `reader.read(i)` for 0 <= i < len(reader), the same in any process.

    Opening checks that every tar is there with the manifest's size; each read is checked by CRC-32. Reads that raise
    BadSample plus reads that succeed are always `len(reader)`. `read_ahead` is the number of samples which the system
    is asked to fetch in one go around the first touched of them (0: none). `hint` ends the error for missing data.
    """

    def __init__(self, folder: Path | str, read_ahead: int = 256, hint: str = "") -> None:
        self.folder = Path(folder)
        self.read_ahead = read_ahead
        self.manifest: SplitManifest = read_manifest(self.folder, hint)
        self.tars = Path(self.manifest.tars) if self.manifest.tars else self.folder
        self._ends = list(accumulate(shard.samples for shard in self.manifest.shards))
        self._shards: OrderedDict[int, _Shard] = OrderedDict()
        self._advised: OrderedDict[tuple[int, int], None] = OrderedDict()
        self._check_sizes()

    def __len__(self) -> int:
        return self.manifest.samples

    @property
    def digest(self) -> str:
        """SHA-256 over the split's tars, from the manifest, in hex."""
        return self.manifest.digest

    def key(self, index: int) -> str:
        """The key of sample `index`."""
        shard, row = self._locate(index)
        return self._open(shard).samples[row][0]

    def read(self, index: int, extensions: Collection[str] | None = None) -> RawSample:
        """Sample `index`, all its members or those named; raises BadSample where the stored bytes are not readable."""
        number, row = self._locate(index)
        shard = self._open(number)
        key, places = shard.samples[row]
        self._advise(number, shard, row)
        wanted = places if extensions is None else {name: places[name] for name in extensions if name in places}
        name = self.manifest.shards[number].name
        return RawSample(
            key, {ext: read_member(shard.descriptor, place, key, ext, name) for ext, place in wanted.items()}
        )

    def close(self) -> None:
        """Close the files; the next read opens them again."""
        for shard in self._shards.values():
            os.close(shard.descriptor)
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
        samples = read_index(self.folder, entry)
        try:
            descriptor = os.open(self.tars / entry.name, os.O_RDONLY)
        except OSError as error:
            raise disk_error(error, self.tars / entry.name, "read") from error
        self._shards[number] = _Shard(descriptor, samples)
        if len(self._shards) > _OPEN_SHARDS:
            _, oldest = self._shards.popitem(last=False)
            os.close(oldest.descriptor)
        return self._shards[number]

    def _advise(self, number: int, shard: _Shard, row: int) -> None:
        """Have the system fetch the whole block of samples around `row`: one sequential read in place of many small."""
        if self.read_ahead < 1 or not hasattr(os, "posix_fadvise"):
            return
        block = (number, row // self.read_ahead)
        if block in self._advised:
            return
        self._advised[block] = None
        if len(self._advised) > _ADVISED_BLOCKS:
            self._advised.popitem(last=False)
        first = block[1] * self.read_ahead
        last = min(first + self.read_ahead, len(shard.samples)) - 1
        start = min(place[0] for place in shard.samples[first][1].values())
        end = max(place[0] + place[1] for place in shard.samples[last][1].values())
        if end > start:
            os.posix_fadvise(shard.descriptor, start, end - start, os.POSIX_FADV_WILLNEED)

    def _check_sizes(self) -> None:
        for entry in self.manifest.shards:
            path = self.tars / entry.name
            if not path.is_file():
                raise ModalignError(f"shard {path} is gone: the manifest lists {entry.samples} samples in it")
            if (size := path.stat().st_size) != entry.bytes:
                state = "truncated" if size < entry.bytes else "altered"
                raise ModalignError(
                    f"shard {path} is {state}: {size} bytes, the manifest says {entry.bytes}; "
                    f"run `modalign verify {self.folder}`, then make or fetch it again"
                )


def read_member(descriptor: int, place: Place, key: str, extension: str, shard: str) -> bytes:
    """A member's bytes from an open tar; raises BadSample where they are not there or not what the index says."""
    offset, size, crc = place
    pieces, done = [], 0
    try:
        while done < size and (piece := os.pread(descriptor, size - done, offset + done)):
            pieces.append(piece)
            done += len(piece)
    except OSError as error:
        raise BadSample(key, f".{extension} cannot be read from {shard}: {error.strerror}") from error
    data = b"".join(pieces)
    if done < size:
        raise BadSample(key, f".{extension} ends after {done} of {size} bytes in {shard}")
    if zlib.crc32(data) != crc:
        raise BadSample(key, f".{extension} is damaged in {shard}: its CRC-32 is not the index's")
    return data
