"""Saves at optimizer-step boundaries only: every so many steps, at the end, and when a signal asks to stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from modalign.runs.interrupt import InterruptFlag
from modalign.runs.ranks import ALONE, Ranks
from modalign.runs.writer import Writer


class StepCheckpoints(pl.Callback):
    """Keeps the newest checkpoint, and those at multiples of `keep_every` steps (0: none).

    `writer` may still be writing while the training goes on; where it fails, the training ends with its error.
    `interrupted` holds the signal's name after a stop that one asked for.
    """

    def __init__(
        self,
        folder: Path,
        every: int,
        flag: InterruptFlag,
        writer: Writer,
        ranks: Ranks = ALONE,
        keep_every: int = 0,
    ) -> None:
        self.folder = folder
        self.every = every
        self.keep_every = keep_every
        self.flag = flag
        self.writer = writer
        self.ranks = ranks
        self.interrupted: str | None = None
        self._saved = -1

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """The step resumed from is saved already."""
        self._saved = trainer.global_step
        # Lightning's own handler of SIGTERM would end the run in the midst of an optimizer step, unsaved.
        self.flag.take_back()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save where it is due; stop where a signal was seen."""
        step = trainer.global_step
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        self.writer.check()
        raised = self.flag.agreed(self.ranks.maximum)
        due = step % self.every == 0 or step >= pl_module.total_steps
        due = due or (self.keep_every > 0 and step % self.keep_every == 0)
        if step != self._saved and (due or raised):
            self.writer.wait()  # before another copy is made: there is memory for one
            trainer.save_checkpoint(self.folder / f"step-{step}")
            self._saved = step
        if raised and step < pl_module.total_steps:
            self.interrupted = raised
            trainer.should_stop = True

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Nobody goes on, or says that the run has ended or stopped, before its last checkpoint is on disk."""
        self.ranks.together(self.writer.wait)
