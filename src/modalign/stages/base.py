"""The one LightningModule behind every stage: objective, freeze contract, exact normalisation, what it measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from modalign.config.schema import OptimizerSettings
from modalign.models.freezing import FreezableModule, FreezePlan, GradientProof
from modalign.models.parts import load_parts, part_of, parts, state_by_part
from modalign.runs.holes import Holes
from modalign.runs.randomness import capture_randomness, restore_randomness
from modalign.stages.meter import Meter
from modalign.stages.objective import Term
from modalign.stages.optimizer import make_optimizer, make_schedule
from modalign.types import Batch


class StageModule(pl.LightningModule):
    """Trains the parts that a freeze plan names on a weighted objective; only what trains enters a checkpoint."""

    objective: tuple[Term, ...] = ()

    def __init__(
        self,
        model: FreezableModule,
        plan: FreezePlan,
        optimizer: OptimizerSettings,
        total_steps: int,
        scales: Mapping[str, float] | None = None,
        max_bad_share: float = 0.0,
    ) -> None:
        super().__init__()
        self.model = model
        self.plan = plan
        self.settings = optimizer
        self.total_steps = total_steps
        self.scales = dict(scales or {})
        self.proof = GradientProof(model, plan.trains)
        self.meter = Meter()
        self.holes = Holes(max_bad_share)
        self.latest: dict[str, float] = {}
        self.strict_loading = False
        self._count: Tensor | None = None

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The objective's sum on one slice; it is divided by the count of the whole optimizer step before clipping."""
        if not batch.keys:
            return self._nothing(batch)
        loss: Tensor | None = None
        count: Tensor | None = None
        for term in self.objective:
            output = term(self.model, batch)
            self.meter.add(batch.source, term.name, output.total.detach(), output.count.detach(), len(batch.keys))
            weighted = output.total * term.weight
            loss = weighted if loss is None else loss + weighted
            count = output.count.detach() if count is None else torch.maximum(count, output.count.detach())
        assert loss is not None, "a stage needs at least one term"
        assert count is not None
        self._count = count if self._count is None else self._count + count
        self._note_holes(batch)
        return loss * self.trainer.accumulate_grad_batches

    def _nothing(self, batch: Batch) -> Tensor:
        """A slice of which every sample was bad: a loss of zero, so that every rank still does the same."""
        self._note_holes(batch)
        zero = torch.stack([p.sum() * 0.0 for p in self.model.parameters() if p.requires_grad]).sum()
        self._count = zero.detach() if self._count is None else self._count
        return zero

    def _note_holes(self, batch: Batch) -> None:
        """Count the slice's bad samples; too many of a recipe's end the run."""
        for recipe, key, reason in batch.holes:
            self.holes.add(recipe, key, reason)
        data = getattr(self.trainer, "datamodule", None)
        if batch.holes and data is not None:
            self.holes.check(data.consumed(self.trainer.global_step + 1))

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide the summed gradients by the supervised count over ranks and accumulation (not a mean of means)."""
        assert self._count is not None
        count = self._count
        if self.trainer.world_size > 1:
            count = torch.as_tensor(self.all_gather(count)).sum()
        scale = self.trainer.world_size / count.clamp_min(1e-8)
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        torch._foreach_mul_(gradients, scale)
        self._count = None
        self.proof.record()

    def configure_optimizers(self) -> Any:
        """AdamW over the parts that train, with the stage's schedule."""
        tensors = dict(self.model.named_parameters())
        table = parts(self.model)
        groups = {part: [tensors[name] for name in table[part]] for part in self.plan.trains}
        optimizer = make_optimizer(groups, self.scales, self.settings)
        schedule = make_schedule(optimizer, self.settings, self.total_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:  # type: ignore[override]
        """Only the tensors of parts that train, under the model's own names."""
        states = state_by_part(self.model, self.plan.trains)
        return {name: tensor for tensors in states.values() for name, tensor in tensors.items()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load what a checkpoint of this stage holds; a part that is missing or misshapen is an error."""
        states: dict[str, dict[str, Tensor]] = {part: {} for part in self.plan.trains}
        for name, tensor in state_dict.items():
            states.setdefault(part_of(name), {})[name] = tensor
        return load_parts(self.model, states)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Random states, measures under way and counted holes, so that a resumed run is the unbroken one."""
        checkpoint["modalign"] = {
            "randomness": capture_randomness(),
            "meter": self.meter.state(),
            "proof": self.proof.state(),
            "holes": self.holes.to_dict(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up what `on_save_checkpoint` wrote."""
        state = checkpoint["modalign"]
        restore_randomness(state["randomness"])
        self.meter.load(state["meter"])
        self.proof.load(state["proof"])
        self.holes = Holes(self.holes.max_share, earlier=state["holes"])
