"""Things that can be had again, kept in a process's memory: bounded in bytes, the least recently used going first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

Name = TypeVar("Name", bound=Hashable)
Kept = TypeVar("Kept")


class MemoryCache(Generic[Name, Kept]):
    """Things by name, together at most `max_bytes` as `size` counts them; any thread may use it.

    What alone is larger is not kept, unless the newest is to stay whatever its size. Another process gets an empty one.
    """

    def __init__(self, max_bytes: int, size: Callable[[Kept], int], newest_stays: bool = False) -> None:
        self.max_bytes, self.size, self.newest_stays = max_bytes, size, newest_stays
        self._kept: OrderedDict[Name, Kept] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.max_bytes, self.size, self.newest_stays)

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, name: Name) -> Kept | None:
        """What is kept under a name, which counts as used now; None where nothing is."""
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
            return self._kept.get(name)

    def get(self, name: Name, fetch: Callable[[], Kept]) -> Kept:
        """What is kept under a name, or what `fetch` gives, which is kept then."""
        found = self.find(name)
        if found is None:
            found = fetch()
            self.put(name, found)
        return found

    def put(self, name: Name, value: Kept) -> None:
        """Keep something under a name, in place of what was there."""
        with self._lock:
            self._drop(name)
            self._kept[name] = value
            self._bytes += self.size(value)
            while self._bytes > self.max_bytes and len(self._kept) > self.newest_stays:
                self._drop(next(iter(self._kept)))

    def forget(self, name: Name) -> None:
        """Have it fetched anew next time."""
        with self._lock:
            self._drop(name)

    def _drop(self, name: Name) -> None:
        if name in self._kept:
            self._bytes -= self.size(self._kept.pop(name))
