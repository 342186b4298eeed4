"""The folder of one run: where its files lie, where it belongs, and the lock that keeps a second writer out."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

from modalign.errors import ModalignError
from modalign.runs.files import check_writable, telling_errors
from modalign.runs.manifest import Manifest, find_manifest

# Locks of this process by folder: the system's lock keeps other processes out, but not a second call in this one.
_held: set[Path] = set()


class FolderTaken(ModalignError):
    """Another writer holds the run's folder."""


class RunFolder:
    """The run at `path`; nothing is made until `prepare` or `lock`."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.manifest_file = self.path / "manifest.json"
        self.metrics_file = self.path / "metrics.csv"
        self.results_file = self.path / "results.json"
        self.report_file = self.path / "report.html"
        self.checkpoints = self.path / "checkpoints"
        self.samples = self.path / "samples"
        self.lock_file = self.path / "lock"

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.name

    def manifest(self) -> Manifest | None:
        """The manifest, None where no run has begun here."""
        return find_manifest(self.path)

    def status(self) -> str | None:
        """`running`, `finished`, `failed` or `interrupted` as last written, None where no run has begun.

        A run that was killed still says `running`; whether one is alive is `lock`'s to find out.
        """
        manifest = self.manifest()
        return None if manifest is None else manifest.status

    def prepare(self) -> RunFolder:
        """Make the folder and prove that it can be written."""
        check_writable(self.path)
        return self

    @contextlib.contextmanager
    def lock(self) -> Iterator[RunFolder]:
        """Hold the folder as its only writer; ModalignError names the process that already does.

        The lock belongs to this process alone: it goes with it however it ends, and forked loader workers that
        outlive it do not keep it. Where an error comes before anything was written, a folder made for it goes too.
        """
        made = not self.path.exists()
        self.prepare()
        key = self.path.resolve()
        if key in _held:
            raise self._taken(f"this process ({os.getpid()})")
        with telling_errors(self.lock_file):
            descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError) as error:
                holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
                raise self._taken(holder or "another process") from error
            if not self._is_there(descriptor):
                raise self._taken("another process, which has just given up")
            _held.add(key)
            self._sweep()
            with telling_errors(self.lock_file):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
            try:
                yield self
            except BaseException:
                if made:
                    self._withdraw()
                raise
            finally:
                _held.discard(key)
        finally:
            os.close(descriptor)

    def is_locked(self) -> bool:
        """Whether some process holds the folder at this moment."""
        if self.path.resolve() in _held:
            return True  # looked up, not tried: closing the file again would give this process's own lock away
        try:
            descriptor = os.open(self.lock_file, os.O_RDWR)
        except OSError:
            return False
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return True
        finally:
            os.close(descriptor)
        return False

    def _is_there(self, descriptor: int) -> bool:
        """Whether what was locked is still the folder's lock file, and not one that its holder has removed."""
        try:
            return os.path.samestat(os.fstat(descriptor), os.stat(self.lock_file))
        except OSError:
            return False

    def _withdraw(self) -> None:
        """Remove the folder where nothing was written: a run that failed before it began leaves no stump."""
        with contextlib.suppress(OSError):
            if [entry.name for entry in self.path.iterdir()] == [self.lock_file.name]:
                self.lock_file.unlink()
                self.path.rmdir()

    def _sweep(self) -> None:
        """Remove the temporary files that a killed writer left."""
        for stale in self.path.glob(".*.tmp"):
            with contextlib.suppress(OSError):
                stale.unlink()

    def _taken(self, holder: str) -> FolderTaken:
        return FolderTaken(
            f"run folder {self.path} is being written by {holder}: wait for it or stop it, or start another beside it "
            f"with fresh=true"
        )


def place_run(root: Path, name: str, identity: str, fresh: bool = False) -> RunFolder:
    """Where the run called `name` with the full `identity` belongs under `root`; makes nothing.

    The same identity comes back to its latest folder, unfinished or finished. `fresh` goes to a new one beside the
    others (`-2`, `-3`), but returns to one that an earlier `fresh` began and that was stopped unfinished, so that the
    same command given again continues it. A folder of another identity is never touched.
    """
    first = Path(root) / name
    taken = _copies(first)
    own = {number: folder for number, folder in taken.items() if _belongs(folder, identity, tolerant=fresh)}
    if own:
        latest = max(own)
        if not fresh or (latest > 1 and _stopped(own[latest])):
            return RunFolder(own[latest])
    free = next(n for n in range(1, len(taken) + 2) if n not in taken)
    if fresh and taken:
        free = max(taken) + 1
    return RunFolder(first if free == 1 else first.with_name(f"{name}-{free}"))


def _copies(first: Path) -> dict[int, Path]:
    """The folders called as `first`, by their number beside it (the first is 1)."""
    found = {1: first} if first.exists() else {}
    if first.parent.is_dir():
        for folder in first.parent.iterdir():
            match = re.fullmatch(re.escape(first.name) + r"-([1-9]\d*)", folder.name)
            if match and int(match[1]) > 1:
                found[int(match[1])] = folder
    return found


def _belongs(folder: Path, identity: str, tolerant: bool) -> bool:
    """Whether the run in `folder` has this identity; one that was killed before its manifest belongs to whoever comes.

    A damaged manifest is an error, except to a `tolerant` caller that looks for a place beside it.
    """
    try:
        manifest = find_manifest(folder)
    except ModalignError:
        if tolerant:
            return False
        raise
    return manifest is None or manifest.identity == identity


def _stopped(folder: Path) -> bool:
    """Whether the run in `folder` is unfinished and nobody is at work on it."""
    run = RunFolder(folder)
    return run.status() != "finished" and not run.is_locked()
