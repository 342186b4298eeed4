"""What the rows of one run of the bench share: size, device, clock, rounds, models that are built once, a folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch

from modalign.bench.sizes import Size
from modalign.bench.subject import Subject, in_half, make_subject
from modalign.bench.timing import Clock, Contender, Ratio, Seconds, interleave


@dataclass
class Setting:
    """One run of the bench; models, with `changes` of their settings, are built when the first row asks for them."""

    size: Size
    device: torch.device
    clock: Clock
    rounds: int
    folder: Path
    changes: tuple[str, ...] = ()

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU computes."""
        return self.device.type == "cuda"

    @cached_property
    def step(self) -> Subject:
        """The model that steps are compared on, in float32."""
        return make_subject(self.size.step, self.device, self.changes)

    @cached_property
    def half(self) -> Subject:
        """The same with language model and encoder in bfloat16; on a GPU the only one, lest two be held."""
        return (
            make_subject(self.size.step, self.device, self.changes, half=True)
            if self.on_gpu
            else in_half(self.step, self.changes)
        )

    @cached_property
    def frame(self) -> Subject:
        """The model that frameworks are compared on."""
        return self.half if self.on_gpu else make_subject(self.size.frame, self.device, self.changes)

    def time(self, contenders: dict[str, Contender], rounds: int | None = None) -> Seconds:
        """Seconds of each contender, interleaved."""
        return interleave(contenders, rounds or self.rounds, self.device, self.clock)


@dataclass(frozen=True)
class Result:
    """One row: the ratio, what was compared in absolute terms, how far both agree, and every round's seconds.

    `flops` is what the ratio would be if both reached the same share of the machine; `work` the FLOPs of ours and of
    the peer, where both are steps, in the precision `computes`; `spread` how far ours is from itself; `agreement` what
    was asserted before.
    """

    ratio: Ratio
    ours: str
    peer: str
    agreement: str
    flops: float | None = None
    spread: float | None = None
    seconds: Seconds = field(default_factory=dict)
    work: tuple[int, int] | None = None
    computes: str = "float32"
