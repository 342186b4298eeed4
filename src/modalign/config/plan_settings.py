"""What `modalign plan` reckons with: hardware, and the text of data that are not there. No run depends on it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveInt

from modalign.config.kinds import Positive, Precision, Strict


class HardwareSettings(Strict):
    """What `modalign plan` reckons with: the peak of one device by precision (dense, in TFLOP/s), how much of it
    training reaches, and its memory in GB (10^9 bytes). How many devices there are is the trainer's to say.
    """

    name: str = "two CPU cores"
    peak_tflops: dict[Precision, Positive] = {"32-true": 0.18, "bf16-mixed": 0.18}
    utilisation: Annotated[float, Field(gt=0, le=1)] = 0.24
    memory_gb: Positive | None = None


class AssumedTokens(Strict):
    """Tokens of text in a sample of a recipe whose data are not there to be counted."""

    caption: PositiveInt = 32
    question: PositiveInt = 32
    answer: PositiveInt = 96
    text: PositiveInt = 512


class PlanSettings(Strict):
    """What `modalign plan` assumes; no run depends on it."""

    hardware: HardwareSettings = HardwareSettings()
    assume: AssumedTokens = AssumedTokens()
