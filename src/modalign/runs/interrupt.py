"""Signals as a flag: a run that is told to stop saves at its next optimizer step instead of in the midst of one."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class InterruptFlag:
    """While entered, SIGTERM, SIGUSR1 (a scheduler's notice) and SIGINT only set `raised`.

    A second SIGINT raises KeyboardInterrupt, for somebody who does not want to wait. Outside the main thread, where
    Python allows no handlers, the flag is never raised. Earlier handlers come back on leaving.
    """

    def __init__(self, signals: tuple[signal.Signals, ...] = SIGNALS) -> None:
        self.signals = signals
        self.raised: str | None = None
        self._earlier: dict[signal.Signals, Any] = {}
        self._process = 0

    def __enter__(self) -> InterruptFlag:
        self._process = os.getpid()
        if threading.current_thread() is threading.main_thread():
            self._earlier = {number: signal.signal(number, self._notice) for number in self.signals}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._earlier = {}

    def take_back(self) -> None:
        """Put the handlers in place again, after a library has put its own before them."""
        for number in self._earlier:
            signal.signal(number, self._notice)

    def __bool__(self) -> bool:
        return self.raised is not None

    def _notice(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            self._obey_in_child(number)
            return
        if number == signal.SIGINT and self.raised == signal.SIGINT.name:
            raise KeyboardInterrupt
        self.raised = signal.Signals(number).name

    def _obey_in_child(self, number: int) -> None:
        """A forked loader worker has nothing to save: it ends on SIGTERM and leaves the rest to its parent."""
        if number == signal.SIGTERM:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
