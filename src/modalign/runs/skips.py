"""Optimizer steps that were skipped since something was not finite: counted, and an error where they do not end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modalign.errors import ModalignError

NUM_EXAMPLES = 20
MOST_IN_A_ROW = 50


class Skips:
    """Counts skipped steps and names the first ones; a step that is done again after a resume is counted again once."""

    def __init__(self, most_in_a_row: int = MOST_IN_A_ROW) -> None:
        self.most_in_a_row = most_in_a_row
        self.count = 0
        self.in_a_row = 0
        self.steps: list[int] = []

    def note(self, step: int, skipped: bool) -> None:
        """Count step `step` where it was skipped; ModalignError where nothing but skipped steps come any more."""
        if not skipped:
            self.in_a_row = 0
            return
        self.count += 1
        self.in_a_row += 1
        if len(self.steps) < NUM_EXAMPLES:
            self.steps.append(step)
        if self.in_a_row >= self.most_in_a_row:
            raise ModalignError(
                f"loss or gradient was not finite in {self.in_a_row} steps in a row, up to step {step}: lower "
                f"stages.<stage>.optimizer.learning_rate, or set trainer.precision=32-true"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the manifest and the checkpoint."""
        return {"count": self.count, "in_a_row": self.in_a_row, "steps": list(self.steps)}

    def load(self, state: Mapping[str, Any] | None) -> None:
        """Take up what a checkpoint kept; None is one from before anything was counted."""
        if state is not None:
            self.count, self.in_a_row, self.steps = state["count"], state["in_a_row"], list(state["steps"])
