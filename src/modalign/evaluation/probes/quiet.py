"""Looking at a model without leaving a trace: modes and random states are afterwards what they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from modalign.runs.randomness import capture_randomness, restore_randomness


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Within it the model is in eval mode."""
    modes = [(module, module.training) for module in model.modules()]
    randomness = capture_randomness()
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        restore_randomness(randomness)
