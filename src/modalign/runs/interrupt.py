"""Signals: a run that is told to stop saves at its next optimizer step; what has nothing to save ends at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, Self

from modalign.errors import ModalignError

# SIGUSR1 and SIGUSR2 are notices of a scheduler (the second is the one that submitit asks for).
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)


class Interrupted(ModalignError):
    """A signal (`by`) asked to stop; nothing that was saved is lost, and the same command continues."""

    exit_code = 75

    def __init__(self, message: str, by: str = signal.SIGTERM.name) -> None:
        super().__init__(message)
        self.by = by


class Notice(KeyboardInterrupt):
    """A signal (`by`) where nothing has to be saved; as a KeyboardInterrupt no library takes it for an error."""

    def __init__(self, by: str) -> None:
        super().__init__(f"stopped by {by}")
        self.by = by


class _Handlers:
    """Takes the signals over on entering, gives them back on leaving; in the main thread alone, as Python has it."""

    def __init__(self, signals: tuple[signal.Signals, ...] = SIGNALS) -> None:
        self.signals = signals
        self.raised: str | None = None  # the first signal; what follows it follows from it
        self._asked = 0
        self._earlier: dict[signal.Signals, Any] = {}
        self._process = 0

    def _install(self) -> None:
        self._process = os.getpid()
        if threading.current_thread() is threading.main_thread():
            self._earlier = {number: signal.signal(number, self._notice) for number in self.signals}

    def _restore(self) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def take_back(self) -> None:
        """Put the handlers in place again, after a library has put its own before them."""
        for number in self._earlier:
            signal.signal(number, self._notice)

    def _notice(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            self._obey_in_child(number)
            return
        self._asked += number == signal.SIGINT
        if self._asked > 1:
            raise KeyboardInterrupt
        if self.raised is None:
            self.raised = signal.Signals(number).name
            self._told(self.raised)

    def _told(self, by: str) -> None:
        """What follows from the first signal."""

    def _obey_in_child(self, number: int) -> None:
        """A forked loader worker has nothing to save: it ends on SIGTERM and leaves the rest to its parent."""
        if number == signal.SIGTERM:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


class InterruptFlag(_Handlers):
    """While entered, SIGTERM, SIGINT, SIGUSR1 and SIGUSR2 (a scheduler's notices) only set `raised`.

    A second SIGINT raises KeyboardInterrupt, for somebody who does not want to wait. Outside the main thread, where
    Python allows no handlers, the flag is never raised. Earlier handlers come back on leaving; a StopAtOnce among them
    hears of a signal that nobody has obeyed.
    """

    def __enter__(self) -> InterruptFlag:
        self._install()
        return self

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        self._restore()
        outer = getattr(self._earlier.get(signal.SIGTERM), "__self__", None)
        self._earlier = {}
        if self.raised is None or not isinstance(outer, StopAtOnce):
            return
        if error is None:
            signal.raise_signal(signal.Signals[self.raised])
        outer.raised = self.raised

    def agreed(self, maximum: Callable[[Sequence[int]], Sequence[int]]) -> str | None:
        """The signal that some process of the run has seen; all ask at the same step, and stop at the same one.

        `maximum` is how they find the largest of their numbers (`Ranks.maximum`).
        """
        (number,) = maximum([signal.Signals[self.raised] if self.raised else 0])
        return signal.Signals(number).name if number else None

    def __bool__(self) -> bool:
        return self.raised is not None


class StopAtOnce(_Handlers):
    """While entered, the first signal raises Notice wherever the program is; later ones change nothing.

    An InterruptFlag within it takes over for as long as the end has to wait for an optimizer step.
    """

    def __enter__(self) -> Self:
        self._install()
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()
        self._earlier = {}

    def _told(self, by: str) -> None:
        raise Notice(by)
