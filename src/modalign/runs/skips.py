"""Optimizer steps that were skipped since something was not finite: counted, and an error where they do not end."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch

from modalign.errors import ModalignError

NUM_EXAMPLES = 20
MOST_IN_A_ROW = 50
_REMEDY = "lower stages.<stage>.optimizer.learning_rate, or set trainer.precision=32-true"

log = logging.getLogger(__name__)


class Skips:
    """Counts skipped steps and names the first ones; a step that is done again after a resume is counted again once.

    Whether a step was skipped may be told as a tensor, which nobody waits for: `settle` reads all that are unread. What
    `count` and `steps` say is what was read.
    """

    def __init__(self, most_in_a_row: int = MOST_IN_A_ROW) -> None:
        self.most_in_a_row = most_in_a_row
        self.count = 0
        self.in_a_row = 0
        self.steps: list[int] = []
        self._ended_at: int | None = None
        self._unread: list[tuple[int, torch.Tensor]] = []

    def note(self, step: int, skipped: bool | torch.Tensor) -> None:
        """Remember whether step `step` was skipped."""
        self._unread.append((step, torch.as_tensor(skipped)))

    @property
    def due(self) -> bool:
        """Whether it is time to `check`: the same step by step wherever the same was told and read."""
        return self._ended_at is not None or len(self._unread) >= self.most_in_a_row

    def settle(self) -> None:
        """Read and count what is unread."""
        unread, self._unread = self._unread, []
        flags = torch.stack([flag for _, flag in unread]).tolist() if unread else []
        for (step, _), skipped in zip(unread, flags, strict=True):
            self.in_a_row = self.in_a_row + 1 if skipped else 0
            self.count += skipped
            if skipped and len(self.steps) < NUM_EXAMPLES:
                self.steps.append(step)
            if self.in_a_row == self.most_in_a_row:
                self._ended_at = step

    def check(self) -> None:
        """Settle; ModalignError where nothing but skipped steps came for long."""
        self.settle()
        if self._ended_at is not None:
            raise ModalignError(
                f"loss or gradient was not finite in {self.most_in_a_row} steps in a row, up to step {self._ended_at}: "
                f"{_REMEDY}"
            )

    def end(self, steps: int) -> None:
        """Settle when `steps` are done, and tell of what was skipped; ModalignError where it was more than half."""
        self.settle()
        if not self.count:
            return
        told = f"loss or gradient was not finite in {self.count} of {steps} steps, which changed nothing"
        if self.count > steps / 2:
            raise ModalignError(f"{told}: {_REMEDY}")
        log.warning("%s (the first: step %d)", told, self.steps[0])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the manifest and the checkpoint."""
        self.settle()
        return {"count": self.count, "in_a_row": self.in_a_row, "steps": list(self.steps)}

    def load(self, state: Mapping[str, Any] | None) -> None:
        """Take up what a checkpoint kept; None is one from before anything was counted."""
        if state is not None:
            self.count, self.in_a_row, self.steps = state["count"], state["in_a_row"], list(state["steps"])
            self._unread = []
