"""Optimizer steps that were skipped since something was not finite: counted, and an error where they do not end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from modalign.errors import ModalignError

NUM_EXAMPLES = 20
MOST_IN_A_ROW = 50


class Skips:
    """Counts skipped steps and names the first ones; a step that is done again after a resume is counted again once.

    Whether a step was skipped may be told as a tensor: it is read together with others, when somebody asks.
    """

    def __init__(self, most_in_a_row: int = MOST_IN_A_ROW) -> None:
        self.most_in_a_row = most_in_a_row
        self._count = 0
        self._in_a_row = 0
        self._steps: list[int] = []
        self._unread: list[tuple[int, torch.Tensor]] = []

    @property
    def count(self) -> int:
        """How many steps were skipped."""
        self.settle()
        return self._count

    @property
    def steps(self) -> list[int]:
        """The first of them."""
        self.settle()
        return self._steps

    def note(self, step: int, skipped: bool | torch.Tensor) -> None:
        """Count step `step` where it was skipped; ModalignError where nothing but skipped steps come any more."""
        self._unread.append((step, torch.as_tensor(skipped)))
        if len(self._unread) >= self.most_in_a_row:
            self.settle()

    def settle(self) -> None:
        """Read what is not read yet; the same ModalignError."""
        if not self._unread:
            return
        unread, self._unread = self._unread, []
        flags = torch.stack([flag for _, flag in unread]).tolist()
        for (step, _), skipped in zip(unread, flags, strict=True):
            self._settle(step, bool(skipped))

    def _settle(self, step: int, skipped: bool) -> None:
        if not skipped:
            self._in_a_row = 0
            return
        self._count += 1
        self._in_a_row += 1
        if len(self._steps) < NUM_EXAMPLES:
            self._steps.append(step)
        if self._in_a_row >= self.most_in_a_row:
            raise ModalignError(
                f"loss or gradient was not finite in {self._in_a_row} steps in a row, up to step {step}: lower "
                f"stages.<stage>.optimizer.learning_rate, or set trainer.precision=32-true"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the manifest and the checkpoint."""
        self.settle()
        return {"count": self._count, "in_a_row": self._in_a_row, "steps": list(self._steps)}

    def load(self, state: Mapping[str, Any] | None) -> None:
        """Take up what a checkpoint kept; None is one from before anything was counted."""
        if state is not None:
            self._count, self._in_a_row, self._steps = state["count"], state["in_a_row"], list(state["steps"])
            self._unread = []
