"""Read every byte of a split's shards again and say what is not as the manifest has it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from modalign.data.disk import sha256_file
from modalign.data.manifest import Place, ShardEntry, read_index, read_manifest
from modalign.data.reader import RawSample
from modalign.data.remote import RemotePath, location
from modalign.data.tar import Damage, scan
from modalign.data.tar_bytes import LocalTar, TarBytes, read_member
from modalign.errors import BadSample, ModalignError

Check = Callable[[RawSample], None]


@dataclass(slots=True)
class Report:
    """What verification found; `readable` plus the number of `bad` ones is always `samples`, the manifest's count."""

    folder: Path
    samples: int
    readable: int = 0
    bad: list[tuple[str, str]] = field(default_factory=list)
    """(key, reason) of each sample that cannot be read."""
    problems: list[str] = field(default_factory=list)
    """What is wrong with shards as files, damage that spares the samples included."""

    @property
    def ok(self) -> bool:
        """Whether everything is as the manifest says."""
        return not self.bad and not self.problems


def verify_folder(folder: Path | RemotePath | str, check: Check | None = None, hint: str = "") -> Report:
    """Compare a split's shards with its manifest: sizes, SHA-256, headers, and every sample's CRC-32 where they differ.

    `check` is called with every readable sample and raises ValueError or BadSample for one that does not decode.
    """
    folder = location(folder)
    manifest = read_manifest(folder, hint)
    tars = location(manifest.tars) if manifest.tars else folder
    if isinstance(tars, RemotePath) or isinstance(folder, RemotePath):
        raise ModalignError(f"{tars}: verify reads every byte, which is for a disk: copy the split to one first")
    report = Report(folder, manifest.samples)
    for entry in manifest.shards:
        _verify_shard(folder, tars / entry.name, entry, check, report)
    return report


def _verify_shard(folder: Path, path: Path, entry: ShardEntry, check: Check | None, report: Report) -> None:
    try:
        samples = read_index(folder, entry)
    except ModalignError as error:
        report.problems.append(str(error))
        report.bad += [(f"{entry.name}#{row}", "its shard has no valid index") for row in range(entry.samples)]
        return
    if not path.is_file():
        report.problems.append(f"{path} is gone")
        report.bad += [(key, f"its shard {entry.name} is gone") for key in samples.keys]
        return
    intact = path.stat().st_size == entry.bytes and sha256_file(path) == entry.sha256
    if not intact:
        report.problems += _damage(path, entry)
    if intact and check is None:
        report.readable += len(samples.keys)
        return
    with LocalTar(path) as tar:
        for row, key in enumerate(samples.keys):
            _verify_sample(tar, key, samples.places(row), entry.name, check, report)


def _verify_sample(
    tar: TarBytes, key: str, places: dict[str, Place], shard: str, check: Check | None, report: Report
) -> None:
    try:
        members = {name: read_member(tar, place, key, name, shard) for name, place in places.items()}
        if check is not None:
            check(RawSample(key, members))
    except BadSample as bad:
        report.bad.append((key, bad.reason))
    except ValueError as error:
        report.bad.append((key, str(error)))
    else:
        report.readable += 1


class _NoDigest:
    def update(self, data: bytes, /) -> None:
        """Take nothing in: the digest is known already."""


def _damage(path: Path, entry: ShardEntry) -> list[str]:
    """What differs in a shard that is not as it was, with the place of the first damaged header if there is one."""
    size = path.stat().st_size
    told = [f"{path}: {size} bytes, the manifest says {entry.bytes}"] if size != entry.bytes else []
    told = told or [f"{path}: SHA-256 differs from the manifest's"]
    with path.open("rb") as file:
        found = [item for item in scan(file, _NoDigest()) if isinstance(item, Damage)]
    return told + [f"{path}: byte {damage.offset}: {damage.reason}" for damage in found[:5]]
