"""What an optimizer step saw and did: a callback that looks on and changes no bit of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from modalign.models.freezing import frozen_digest
from modalign.stages.objective import Term, TermOutput
from modalign.stages.optimizer import rates_of
from modalign.types import Batch


@dataclass(slots=True)
class SliceSeen:
    """One slice of the step: `terms` are sums and counts by name; losses of single samples where the model tells."""

    number: int
    batch: Batch
    terms: dict[str, tuple[float, float]] = field(default_factory=dict)
    sample_losses: list[float | None] = field(default_factory=list)

    @property
    def loss(self) -> float:
        """Mean of the first term over what it supervises."""
        total, count = next(iter(self.terms.values()), (0.0, 0.0))
        return total / max(count, 1e-8)


@dataclass(slots=True)
class StepSeen:
    """One optimizer step: gradient norms and rates by part, the norms divided as the step divides them, not clipped.

    `weights` is the SHA-256 of all that trains after the step. `skipped`: something was not finite, nothing was done.
    """

    step: int
    slices: list[SliceSeen] = field(default_factory=list)
    norms: dict[str, float] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    clip: float | None = None
    skipped: bool = False
    weights: str = ""

    @property
    def loss(self) -> float:
        """Mean over what all slices supervise together."""
        sums = [next(iter(one.terms.values()), (0.0, 0.0)) for one in self.slices]
        return sum(total for total, _ in sums) / max(sum(count for _, count in sums), 1e-8)

    @property
    def norm(self) -> float:
        """Length of the whole gradient."""
        return float(sum(value**2 for value in self.norms.values())) ** 0.5


@dataclass(frozen=True, slots=True)
class _Heard:
    """A term of the objective whose outcome is told."""

    term: Term
    tell: Callable[[str, TermOutput], None]

    @property
    def name(self) -> str:
        return self.term.name

    @property
    def weight(self) -> float:
        return self.term.weight

    def __call__(self, model: Any, batch: Batch) -> TermOutput:
        output = self.term(model, batch)
        self.tell(self.name, output)
        return output


class StepWitness(pl.Callback):
    """Looks on at step `step` (the first is 1) and stops the training after step `last`."""

    def __init__(self, step: int, last: int) -> None:
        self.seen = StepSeen(step)
        self.last = last
        self._watching = False
        self._skips = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Listen to the objective and to the model's own loss by sample."""
        pl_module.objective = tuple(_Heard(term, self._term) for term in pl_module.objective)
        pl_module.model.register_forward_hook(self._forward)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Batch, batch_idx: int) -> None:
        """Note a slice of the step."""
        self._watching = trainer.global_step == self.seen.step - 1
        if self._watching:
            pl_module.skips.settle()
            self._skips = pl_module.skips.count
            number = (self.seen.step - 1) * trainer.accumulate_grad_batches + len(self.seen.slices)
            losses: list[float | None] = [None] * len(batch.keys)
            self.seen.slices.append(SliceSeen(number, batch, sample_losses=losses))

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: torch.optim.Optimizer) -> None:
        """Gradients are sums still; the module divides them next, and what is too long is clipped after that."""
        if not self._watching:
            return
        count = sum(max((count for _, count in one.terms.values()), default=0.0) for one in self.seen.slices)
        for part, group in pl_module.proof.groups.items():
            gradients = [p.grad for p in group if p.grad is not None]
            if gradients:
                self.seen.norms[part] = _length(gradients) / max(count, 1e-8)
        self.seen.rates = rates_of(optimizer)
        self.seen.clip = trainer.gradient_clip_val  # type: ignore[assignment]

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Take the weights' digest after the step; stop after the last one."""
        step = trainer.global_step
        if self._watching and step == self.seen.step:
            pl_module.skips.settle()
            self.seen.skipped = pl_module.skips.count > self._skips
            self.seen.weights = weights_digest(pl_module)
            self._watching = False
        if step >= self.last:
            trainer.should_stop = True

    def _term(self, name: str, output: TermOutput) -> None:
        if self._watching:
            self.seen.slices[-1].terms[name] = (float(output.total.detach()), float(output.count.detach()))

    def _forward(self, model: Any, given: Any, output: Any) -> None:
        if self._watching and hasattr(output, "per_sample_sum"):
            sums, weights = output.per_sample_sum.tolist(), output.per_sample_weight.tolist()
            self.seen.slices[-1].sample_losses = [
                total / weight if weight else None for total, weight in zip(sums, weights, strict=True)
            ]


def weights_digest(module: Any) -> str:
    """SHA-256 (64 hex digits) of every tensor of the parts that train."""
    by_part = frozen_digest(module.model, module.plan.trains)
    lines = "".join(f"{part}:{digest}\n" for part, digest in sorted(by_part.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _length(gradients: list[Tensor]) -> float:
    return float(torch.stack([g.detach().double().square().sum() for g in gradients]).sum().sqrt())
