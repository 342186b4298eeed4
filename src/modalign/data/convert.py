"""Pieces of a source to shards, in several processes: what is done is kept, so that a killed run continues."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modalign.data.disk import disk_error, sync_folder
from modalign.data.manifest import MANIFEST_NAME, ShardEntry, index_name, write_manifest
from modalign.data.pieces import Job, Piece, PieceReport, Workers
from modalign.data.recipes import Recipe
from modalign.data.report import REPORT_NAME, MakeReport, Progress, write_report
from modalign.data.shards import take_lock
from modalign.data.sources.items import Dropped, UnitSource
from modalign.errors import ModalignError

_HOPELESS = 5000


@dataclass(slots=True)
class _Split:
    """One split on its way: its unfinished folder, the pieces met so far, and what became of each."""

    name: str
    folder: Path
    lock: int
    tars: Path | None = None
    pieces: int = 0
    done: dict[int, PieceReport] = field(default_factory=dict)

    @property
    def partial(self) -> Path:
        return self.folder.with_name(self.folder.name + ".partial")


def convert(
    recipe: Recipe,
    source: UnitSource,
    report: MakeReport,
    samples_per_shard: int,
    workers: int,
    progress: Progress,
    splits: Collection[str],
    settings: Any,
) -> None:
    """Make the named splits of a recipe below `report.folder`; a split's folder appears when all of it is done.

    A piece that was finished by an earlier call, of the same rows under the same `settings`, is kept. The shards are
    the same whatever the number of workers. Raises ModalignError where nothing can be made.
    """
    job = Job(source, tuple(recipe.media.values()), recipe.text)
    identity = json.dumps([settings, list(recipe.media.items()), recipe.text, samples_per_shard], default=str)
    with ExitStack() as stack:
        open_splits: dict[str, _Split] = {}
        pool = stack.enter_context(Workers(job, workers))
        running: dict[Future[PieceReport], tuple[_Split, Piece]] = {}
        for piece in _pieces(source, samples_per_shard, splits, open_splits, report, identity, stack):
            split = open_splits[piece.unit.split]
            if (kept := _kept(split, piece)) is not None:
                _take(split, piece, kept, report, progress)
                continue
            running[pool.submit(split.partial, piece)] = (split, piece)
            if len(running) >= 2 * workers:
                _collect(running, report, progress)
        while running:
            _collect(running, report, progress)
        if not report.total_written:
            for split in open_splits.values():
                shutil.rmtree(split.partial, ignore_errors=True)
            raise ModalignError(f"recipe {recipe.name}: not one sample could be made; {report.told()}")
        for split in open_splits.values():
            _finish(split, report)


def _pieces(
    source: UnitSource,
    samples_per_shard: int,
    splits: Collection[str],
    open_splits: dict[str, _Split],
    report: MakeReport,
    identity: str,
    stack: ExitStack,
) -> Iterator[Piece]:
    """The source's units with their numbers, each split opened when its first one comes."""
    for unit in source.units(samples_per_shard, splits):
        if isinstance(unit, Dropped):
            report.drop(unit.split, unit.key, unit.reason)
            continue
        if unit.split not in open_splits:
            split = open_splits[unit.split] = _open(unit.split, report.folder / unit.split)
            stack.callback(os.close, split.lock)
        split = open_splits[unit.split]
        split.tars = unit.tar.parent if unit.tar is not None else None
        content = f"{identity}\n{json.dumps(unit.payload, default=str)}".encode()
        yield Piece(split.pieces, unit, hashlib.blake2b(content, digest_size=16).hexdigest())
        split.pieces += 1


def _open(name: str, folder: Path) -> _Split:
    partial = folder.with_name(folder.name + ".partial")
    try:
        partial.mkdir(parents=True, exist_ok=True)
        return _Split(name, folder, take_lock(partial))
    except OSError as error:
        raise disk_error(error, partial, "write") from error


def _kept(split: _Split, piece: Piece) -> PieceReport | None:
    """What an earlier call made of the same piece, if its files are still there."""
    try:
        found = PieceReport.model_validate_json((split.partial / piece.file).read_bytes())
    except (OSError, ValueError):
        return None
    if found.identity != piece.identity:
        return None
    entry, tars = found.entry, piece.unit.tar.parent if piece.unit.tar is not None else split.partial
    if entry is None:
        return found
    tar, index = tars / entry.name, split.partial / index_name(entry.name)
    whole = tar.is_file() and tar.stat().st_size == entry.bytes
    return found if whole and index.is_file() and index.stat().st_size == entry.index_bytes else None


def _collect(running: dict[Future[PieceReport], tuple[_Split, Piece]], report: MakeReport, progress: Progress) -> None:
    finished, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in finished:
        split, piece = running.pop(future)
        _take(split, piece, future.result(), report, progress)
    if not report.total_written and report.total_dropped >= _HOPELESS:
        raise ModalignError(f"not one of the first {report.total_dropped} samples could be made; {report.told()}")


def _take(split: _Split, piece: Piece, found: PieceReport, report: MakeReport, progress: Progress) -> None:
    split.done[piece.number] = found
    report.add(split.name, found.written, found.dropped, found.examples)
    progress(report.total_written, report.total_dropped)


def _finish(split: _Split, report: MakeReport) -> None:
    """Write the split's manifest and its report, take away what only the work needed, and give it its name."""
    entries: list[ShardEntry] = [e for number in sorted(split.done) if (e := split.done[number].entry) is not None]
    if not entries:
        shutil.rmtree(split.partial, ignore_errors=True)
        return
    belongs = {name for entry in entries for name in (entry.name, index_name(entry.name))}
    try:
        write_report(split.partial, report.of(split.name))
        write_manifest(split.partial, entries, [], str(split.tars.resolve()) if split.tars is not None else None)
        os.replace(split.partial, split.folder)
        sync_folder(split.folder.parent)
        for leftover in split.folder.iterdir():
            if leftover.name not in belongs | {MANIFEST_NAME, REPORT_NAME}:
                leftover.unlink()
    except OSError as error:
        raise disk_error(error, split.folder, "write") from error


def unfinished(folder: Path) -> list[str]:
    """Splits below a recipe's folder that an interrupted call has begun."""
    return sorted(path.name.removesuffix(".partial") for path in folder.glob("*.partial"))


def finished(folder: Path) -> list[str]:
    """Splits below a recipe's folder that are there already."""
    return sorted(path.parent.name for path in folder.glob(f"*/{MANIFEST_NAME}") if path.parent.suffix != ".partial")
