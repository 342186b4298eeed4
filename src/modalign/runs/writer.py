"""Writes checkpoints beside the training: one at a time, in order, and a failure is told to whoever trains."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

log = logging.getLogger(__name__)


class Writer:
    """Does each write at once or, in the `background`, in a thread of its own; who leaves it (`with`) waits for that.

    `before` is done before each write, by the same thread. A write that has failed raises its error where the writer
    is next spoken to; it does not replace an error that has ended the training already.
    """

    def __init__(self, background: bool = False, before: Callable[[], object] | None = None) -> None:
        self.background = background
        self.before = before
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def __call__(self, write: Callable[[], object]) -> None:
        """Do `write`, or begin it, once what was begun earlier is on disk: there is never more than one under way."""
        self.wait()
        if not self.background:
            self._do(write)
            return
        # No daemon: a program that ends for another reason still ends with a whole checkpoint.
        self._thread = threading.Thread(target=self._try, args=(write,), name="checkpoint")
        self._thread.start()

    def check(self) -> None:
        """Raise the error of a write that has failed by now; nothing is waited for."""
        if self._thread is not None and not self._thread.is_alive():
            self.wait()

    def wait(self) -> None:
        """Wait until everything begun is on disk; raises the error of a write that failed, once."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is None:
            self.wait()
            return
        try:
            self.wait()
        except Exception as second:
            log.warning("%s", second)

    def _do(self, write: Callable[[], object]) -> None:
        if self.before is not None:
            self.before()
        write()

    def _try(self, write: Callable[[], object]) -> None:
        try:
            self._do(write)
        except BaseException as error:
            self._error = error
