"""Slices that a thread makes ready while the model trains: for machines on which a loader process costs too much."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

import torch
from torch.utils.data import DataLoader

T = TypeVar("T")
_TICK_S = 0.2


class Ahead(Generic[T]):
    """A loader's items in its order, up to `count` of them made before they are asked for.

    The thread computes with one core. An error in it is raised where its item is asked for. It ends with the iterator.
    """

    def __init__(self, loader: DataLoader[T], count: int) -> None:
        self.loader, self.count = loader, count

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[T]:
        ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(self.count)
        left = threading.Event()
        thread = threading.Thread(target=self._make, args=(ready, left), name="slices ahead", daemon=True)
        thread.start()
        try:
            while True:
                item, error = ready.get()
                if error is not None:
                    raise error
                if item is None:
                    return
                yield item
        finally:
            left.set()
            with contextlib.suppress(queue.Empty):
                while True:  # a thread that waits for a place goes on at once
                    ready.get_nowait()
            thread.join()

    def _make(self, ready: queue.Queue[tuple[T | None, BaseException | None]], left: threading.Event) -> None:
        torch.set_num_threads(1)
        try:
            for item in self.loader:
                if not _put(ready, (item, None), left):
                    return
            _put(ready, (None, None), left)
        except BaseException as error:
            _put(ready, (None, error), left)


def _put(ready: queue.Queue[T], item: T, left: threading.Event) -> bool:
    """Wait for a place in the queue; False where nobody will ask any more."""
    while not left.is_set():
        try:
            ready.put(item, timeout=_TICK_S)
            return True
        except queue.Full:
            continue
    return False
