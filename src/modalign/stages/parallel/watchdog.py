"""Ends a run of several processes that hangs, and says which of them was where, instead of waiting for ever."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from json import dumps, loads
from types import FrameType
from typing import Any

import lightning.pytorch as pl

from modalign.runs.ranks import Ranks

log = logging.getLogger(__name__)

# The places of a slice in the order in which they are passed.
DATA, FORWARD, BACKWARD, STEP, AFTER = PLACES = (
    "waiting for data", "forward", "backward", "optimizer step", "saving or measuring",
)  # fmt: skip
_ALARM, _MARK = "watchdog/alarm", "watchdog/mark/"
# How many calls are looked at: a collective is a few below FSDP2's hooks, and far below the forward that called them.
_INNERMOST = 8
_EXCHANGES = ("torch.distributed",)
_WRAPPERS = ("torch.distributed.algorithms._checkpoint",)  # around a layer's own computation


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a process is: the slice (from 0), its modalities, the optimizer step under way and the place in it.

    `exchanging` tells, within a place, who waits for the others: sharded layers are exchanged in the forward itself.
    """

    slice: int
    modality: str
    step: int
    place: str
    exchanging: bool = False

    @property
    def order(self) -> tuple[int, int, bool]:
        """How far it has come; what waits in an exchange has come further than what has not reached it."""
        return self.slice, PLACES.index(self.place), self.exchanging


class Watchdog(pl.Callback):
    """Raises the alarm where a slice takes longer than `timeout_s`, its reading included; then every process tells.

    A thread does so, since the process itself is stuck. The first process hands the verdict to `give_up`, and all end.
    `modality_of` names the modalities of a slice. What is done between slices (saving, measuring) takes what it takes:
    this callback is to be the first of all, and `last` the last.
    """

    def __init__(
        self, ranks: Ranks, timeout_s: float, modality_of: Callable[[int], str], give_up: Callable[[str], None]
    ) -> None:
        self.ranks = ranks
        self.timeout_s = timeout_s
        self.modality_of = modality_of
        self.give_up = give_up
        self.tick_s = min(5.0, timeout_s / 4)
        self.last = _Last(self)
        self._mark = Mark(0, "", 0, AFTER)
        self._since: float | None = None
        self._ended = threading.Event()

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Begin to watch."""
        self._ended.clear()
        self.begin(trainer.global_step * trainer.accumulate_grad_batches, trainer.global_step + 1, DATA)
        threading.Thread(target=self._watch, daemon=True, name="watchdog").start()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """A slice is there."""
        self.begin(batch_idx, trainer.global_step + 1, FORWARD)

    def on_before_backward(self, trainer: pl.Trainer, pl_module: Any, loss: Any) -> None:
        """Its loss is there."""
        self._at(BACKWARD)

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: Any) -> None:
        """Its gradients are there."""
        self._at(STEP)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """It is done, and nothing presses until the next one is to be read."""
        self._at(AFTER)
        self._since = None

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Nothing is left to watch."""
        self._ended.set()

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        """What failed tells by itself."""
        self._ended.set()

    def begin(self, number: int, step: int, place: str) -> None:
        """Slice `number` has come to `place`."""
        self._mark = Mark(number, self.modality_of(number), step, place)
        self._since = time.monotonic()

    def _at(self, place: str) -> None:
        self._mark = replace(self._mark, place=place)
        self._since = time.monotonic()

    def _watch(self) -> None:
        store = self.ranks.store
        while not self._ended.wait(self.tick_s):
            late = self._since is not None and time.monotonic() - self._since > self.timeout_s
            try:
                if late and not store.check([_ALARM]):
                    store.set(_ALARM, "1")
                if store.check([_ALARM]):
                    self._answer(store)
            except RuntimeError:
                return  # the store is gone with the process that held it: the run ends anyway

    def _answer(self, store: Any) -> None:
        """Say where this process is, wait for what the others say, judge, end."""
        main = sys._current_frames().get(threading.main_thread().ident or 0)
        mark = replace(self._mark, exchanging=exchanging(main))
        store.set(_MARK + str(self.ranks.rank), dumps(asdict(mark)))
        time.sleep(3 * self.tick_s)
        if self.ranks.first:
            marks: dict[int, Mark | None] = {}
            for rank in range(self.ranks.world_size):
                key = _MARK + str(rank)
                marks[rank] = Mark(**loads(store.get(key))) if store.check([key]) else None
            self.give_up(verdict(marks, self.timeout_s))
        else:
            time.sleep(2 * self.tick_s)
        os._exit(1)


class _Last(pl.Callback):
    """After all other callbacks: from now on the next slice is awaited."""

    def __init__(self, watchdog: Watchdog) -> None:
        self.watchdog = watchdog

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step < pl_module.total_steps and not trainer.should_stop:
            self.watchdog.begin(batch_idx + 1, trainer.global_step + 1, DATA)


def exchanging(frame: FrameType | None) -> bool:
    """Whether a thread's innermost calls are torch.distributed's: it waits for other processes."""
    for _ in range(_INNERMOST):
        if frame is None:
            return False
        name = frame.f_globals.get("__name__", "")
        if name.startswith(_EXCHANGES) and not name.startswith(_WRAPPERS):
            return True
        frame = frame.f_back
    return False


def verdict(marks: Mapping[int, Mark | None], timeout_s: float) -> str:
    """One line: the rank that is furthest behind, or that does not answer at all, and where the others wait for it."""
    silent = [rank for rank, mark in marks.items() if mark is None]
    known = {rank: mark for rank, mark in marks.items() if mark is not None}
    behind = min(known.values(), key=lambda mark: mark.order, default=None)
    words = []
    if silent:
        words.append(_said(silent, "does not answer", "do not answer"))
    by_mark: dict[Mark, list[int]] = {}
    for rank, mark in known.items():
        by_mark.setdefault(mark, []).append(rank)
    for mark, ranks in sorted(by_mark.items(), key=lambda item: item[0].order):
        to_blame = mark == behind and not silent and len(by_mark) > 1
        who = _said(ranks, "hangs", "hang") if to_blame else _said(ranks, "waits", "wait")
        words.append(f"{who} at slice {mark.slice} (modality {mark.modality}) of step {mark.step}: {mark.place}")
    return f"no progress for {timeout_s:g} s (trainer.step_timeout_s): {'; '.join(words)}"


def _said(ranks: list[int], of_one: str, of_several: str) -> str:
    if len(ranks) == 1:
        return f"rank {ranks[0]} {of_one}"
    more = f" and {len(ranks) - 4} more" if len(ranks) > 4 else ""
    return f"ranks {', '.join(map(str, ranks[:4]))}{more} {of_several}"
