"""Probes at intervals while training, one modality in turn: the cost does not grow with the number of senses."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import lightning.pytorch as pl

Probe = Callable[[Any, str, int], dict[str, float]]
"""From the module, a modality and the step to numbers by name."""


class ModalityProbes(pl.Callback):
    """Probes after every `every` optimizer steps; every other time a new modality, between them an earlier one.

    `share` is the part of the training's time that probing has taken so far.
    """

    def __init__(
        self,
        new: Sequence[str],
        seen: Sequence[str],
        every: int,
        probe: Probe,
        write: Callable[[dict[str, float], int], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.new, self.seen = tuple(new), tuple(seen)
        self.every = every
        self.probe = probe
        self.write = write
        self.clock = clock
        self.share = 0.0
        self._spent = self._started = 0.0
        self._probed = -1

    def turn(self, step: int) -> str:
        """Whose turn it is: a function of the step alone, so that a resumed run goes on as the unbroken one would."""
        number = step // self.every - 1
        if not (self.new and self.seen):
            everyone = self.new or self.seen
            return everyone[number % len(everyone)]
        group = self.seen if number % 2 else self.new
        return group[number // 2 % len(group)]

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Time counts from here; the step resumed from has been probed."""
        self._started = self.clock()
        self._spent = 0.0
        self._probed = trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Probe where it is due."""
        step = trainer.global_step
        if step == self._probed or step % self.every:
            return
        self._probed = step
        began = self.clock()
        with trainer.precision_plugin.forward_context():
            values = self.probe(pl_module, self.turn(step), step)
        now = self.clock()
        self._spent += now - began
        self.share = self._spent / max(now - self._started, 1e-9)
        self.write(values | {"probe/share_of_time": self.share}, step)
