"""Validation loss by modality while training: the same few samples of each, without touching any random state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lightning.pytorch as pl
import torch

from modalign.types import Batch


class ModalityValidation(pl.Callback):
    """Measures the objective on fixed batches of each modality every `every` optimizer steps and at the end."""

    def __init__(
        self, batches: Mapping[str, Sequence[Batch]], every: int, write: Callable[[dict[str, float], int], None]
    ) -> None:
        self.batches = batches
        self.every = every
        self.write = write
        self._measured = -1

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """The step begun or resumed from is none to measure after: a slice of the next one ends with its number."""
        self._measured = trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Measure where it is due."""
        step = trainer.global_step
        if step == self._measured or (step % self.every and step != pl_module.total_steps):
            return
        self._measured = step
        losses = {f"val/loss/{name}": self._loss(pl_module, batches) for name, batches in self.batches.items()}
        pl_module.latest.update(losses)
        self.write(losses, step)

    @torch.no_grad()
    def _loss(self, pl_module: Any, batches: Sequence[Batch]) -> float:
        training = pl_module.model.training
        pl_module.model.eval()
        total = count = 0.0
        for batch in batches:
            moved = batch.to(pl_module.device)
            for term in pl_module.objective:
                output = term(pl_module.model, moved)
                total, count = total + term.weight * float(output.total), count + term.weight * float(output.count)
        pl_module.model.train(training)
        return total / max(count, 1e-8)
