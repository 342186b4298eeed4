"""One piece of a source to one shard, in whatever process: the tar, its index, and what was left out of it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Collection, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from pydantic import BaseModel, ConfigDict

from modalign.data.disk import disk_error, write_atomic
from modalign.data.index import index_tar
from modalign.data.manifest import ShardEntry, ShardIndex, write_index
from modalign.data.shards import ShardFile, shard_name
from modalign.data.sources.items import Dropped, Unit, UnitSource
from modalign.data.tar_bytes import LocalTar, read_member
from modalign.errors import BadSample, ModalignError

_EXAMPLES = 20


@dataclass(frozen=True)
class Job:
    """What every piece of a call has in common: the source, and which members a sample of the recipe must have."""

    source: UnitSource
    media: tuple[str, ...]
    text: str

    def unfit(self, members: Collection[str]) -> str:
        """Why a sample is not one of the recipe, or nothing."""
        for extension in (self.text, *(part for medium in self.media for part in medium.split("+"))):
            if extension not in members:
                return f"no .{extension} in it (it has {', '.join(sorted(members))})"
        return ""


@dataclass(frozen=True)
class Piece:
    """A unit with its number in the split; `identity` is a digest of what it is made of and how."""

    number: int
    unit: Unit
    identity: str

    @property
    def file(self) -> str:
        """The name of the file that says the piece is done."""
        return f"piece-{self.number:06d}.json"


class PieceReport(BaseModel):
    """What became of a piece; without an entry not one of its samples could be made."""

    model_config = ConfigDict(extra="forbid")

    identity: str
    written: int
    dropped: dict[str, int]
    examples: list[tuple[str, str]]
    entry: ShardEntry | None


def make_piece(job: Job, folder: Path, piece: Piece) -> PieceReport:
    """Write a piece's shard and index into `folder`, and last of all the file that says so."""
    dropped: dict[str, int] = {}
    examples: list[tuple[str, str]] = []

    def drop(key: str, reason: str) -> None:
        dropped[reason] = dropped.get(reason, 0) + 1
        if len(examples) < _EXAMPLES:
            examples.append((key, reason))

    try:
        index = (_copy if piece.unit.tar is None else _index)(job, folder, piece, drop)
        entry = write_index(folder, index) if index is not None else None
    except OSError as error:
        raise disk_error(error, folder, "write") from error
    written = 0 if entry is None else entry.samples
    made = PieceReport(identity=piece.identity, written=written, dropped=dropped, examples=examples, entry=entry)
    write_atomic(folder / piece.file, made.model_dump_json().encode())
    return made


def _copy(job: Job, folder: Path, piece: Piece, drop: Any) -> ShardIndex | None:
    """The piece's samples as a tar of ours."""
    shard: ShardFile | None = None
    try:
        for item in job.source.convert(piece.unit):
            if isinstance(item, Dropped):
                drop(item.key, item.reason)
            elif reason := job.unfit(item[1]):
                drop(item[0], reason)
            else:
                shard = shard or ShardFile(folder / shard_name(piece.number))
                shard.write(*item)
        return shard.close() if shard is not None else None
    except BaseException:
        if shard is not None:
            shard.abandon()
        raise


def _index(job: Job, folder: Path, piece: Piece, drop: Any) -> ShardIndex | None:
    """An index of somebody else's tar, from which unfit samples are left out; the tar stays as it is."""
    assert piece.unit.tar is not None
    index = index_tar(piece.unit.tar)
    for problem in index.problems:
        drop(problem.where, problem.reason)
    refuse = getattr(job.source, "refuse", None)
    kept = []
    with LocalTar(piece.unit.tar) as tar:
        for key, places in index.samples:
            reason = job.unfit(places)
            if not reason and refuse is not None:
                reason = _refused(refuse, tar, key, places, index.shard)
            if reason:
                drop(key, reason)
            else:
                kept.append((key, places))
    return index.model_copy(update={"samples": kept, "problems": []}) if kept else None


def _refused(refuse: Any, tar: LocalTar, key: str, places: Mapping[str, Any], shard: str) -> str:
    try:
        members = {ext: read_member(tar, place, key, ext, shard) for ext, place in places.items()}
    except BadSample as bad:
        return bad.reason
    return str(refuse(key, members))


class Workers:
    """Makes pieces: in this process for one worker, else in processes that end when this one does."""

    def __init__(self, job: Job, count: int) -> None:
        if count < 1:
            raise ModalignError(f"workers must be at least 1, not {count}")
        self.job, self.count = job, count
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Workers:
        if self.count > 1:
            # A fork server imports the heavy writer once for all workers, and forks from a process without threads.
            context = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload(["webdataset.writer", __name__])
            self._pool = ProcessPoolExecutor(self.count, context, initializer=_begin, initargs=(self.job,))
        return self

    def submit(self, folder: Path, piece: Piece) -> Future[PieceReport]:
        """The report of a piece, when it is done."""
        if self._pool is not None:
            try:
                return self._pool.submit(_make, folder, piece)
            except BrokenProcessPool as error:
                raise _broken() from error
        future: Future[PieceReport] = Future()
        future.set_result(make_piece(self.job, folder, piece))
        return future

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._pool is None:
            return
        if kind is not None:
            for process in list((getattr(self._pool, "_processes", None) or {}).values()):
                process.terminate()
        self._pool.shutdown(wait=True, cancel_futures=True)
        if kind is not None and issubclass(kind, BrokenProcessPool):
            raise _broken() from error


def _broken() -> ModalignError:
    return ModalignError(
        "a worker was killed, perhaps for want of memory: what is finished is kept, and the same command continues; "
        "fewer --workers need less memory"
    )


_JOB: list[Job] = []


def _begin(job: Job) -> None:
    """A worker's start: it leaves interruption to the caller, and ends when the caller is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _JOB[:] = [job]
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


def _make(folder: Path, piece: Piece) -> PieceReport:
    return make_piece(_JOB[0], folder, piece)
