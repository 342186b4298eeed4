"""Where the time of a run goes: seconds by named section, for the manifest."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping


class Sections:
    """Accumulates wall time by section; time in an inner section counts there alone, so that the sum is the whole.

    `earlier` is what a manifest already holds: a resumed run goes on counting.
    """

    def __init__(
        self, earlier: Mapping[str, float] | None = None, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._seconds = dict(earlier or {})
        self._clock = clock
        self._open: list[str] = []
        self._since = 0.0

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Count the time inside to section `name`."""
        self._credit()
        self._open.append(name)
        self._seconds.setdefault(name, 0.0)
        try:
            yield
        finally:
            self._credit()
            self._open.pop()

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds by section until now, in the order in which sections were first entered."""
        self._credit()
        return dict(self._seconds)

    @property
    def total_s(self) -> float:
        """Seconds in all sections."""
        return sum(self.seconds.values())

    def _credit(self) -> None:
        """Give the time since the last change to the innermost open section."""
        now = self._clock()
        if self._open:
            self._seconds[self._open[-1]] += now - self._since
        self._since = now
