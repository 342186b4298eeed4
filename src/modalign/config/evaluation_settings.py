"""What is measured after a phase and while it trains."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveInt

from modalign.config.kinds import Strict


class EvaluationSettings(Strict):
    """What is measured after every phase, on fixed items."""

    splits: tuple[str, ...] = ("test",)
    earlier_splits: PositiveInt | None = None  # for earlier senses in a phase that adds one: the first so many
    num_items: PositiveInt = 320
    batch_size: PositiveInt = 64
    max_new_tokens: PositiveInt = 32
    features_mb: Annotated[int, Field(ge=0)] = 0  # of items, kept in memory while their encoder's side is unchanged
    num_shown: Annotated[int, Field(ge=0)] = 4
    validation_every: Annotated[int, Field(ge=0)] = 0
    validation_items: PositiveInt = 64
    forward_items: Annotated[int, Field(ge=0)] = 0
    probe_every: Annotated[int, Field(ge=0)] = 0
    probe_items: Annotated[int, Field(ge=2)] = 16
