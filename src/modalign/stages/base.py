"""The one LightningModule behind every stage: objective, freeze contract, exact normalisation, what it measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from modalign.config.schema import OptimizerSettings
from modalign.models.freezing import FreezableModule, FreezePlan, GradientProof, merged_proofs
from modalign.models.parts import load_parts, part_of, parts, state_by_part
from modalign.models.shards import gathered, local
from modalign.runs.holes import Holes
from modalign.runs.randomness import capture_randomness, restore_randomness
from modalign.runs.ranks import ALONE
from modalign.runs.skips import Skips
from modalign.stages.meter import Meter, merged_meters
from modalign.stages.muon import hidden_matrices
from modalign.stages.objective import Term
from modalign.stages.optimizer import make_optimizer, make_schedule, rates_of, skip_step
from modalign.stages.optimizer_state import keep_by_name
from modalign.stages.parallel.sharded import Usage, shard
from modalign.types import Batch


class StageModule(pl.LightningModule):
    """Trains the parts that a freeze plan names on a weighted objective; checkpoints hold what trains or began here."""

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
        self.skips = Skips()
        self.ranks = ALONE
        self.usage: Usage | None = None
        self.latest: dict[str, float] = {}
        self._rates: dict[str, float] = {}
        self.strict_loading = False
        self._count: Tensor | None = None
        self._total: Tensor | None = None
        self._bad: list[tuple[str, str, str]] = []

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The objective's sum on one slice; it is divided by the count of the whole optimizer step before clipping."""
        self._bad += batch.holes
        if not batch.keys:
            return self._nothing()
        loss: Tensor | None = None
        count: Tensor | None = None
        for term in self.objective:
            output = term(self.model, batch)
            self.meter.add(batch.source, term.name, output.total.detach(), output.count.detach(), batch.num_samples)
            weighted = output.total * term.weight
            loss = weighted if loss is None else loss + weighted
            count = output.count.detach() if count is None else torch.maximum(count, output.count.detach())
        assert loss is not None, "a stage needs at least one term"
        assert count is not None
        self._count = count if self._count is None else self._count + count
        self._total = loss.detach() if self._total is None else self._total + loss.detach()
        if self.usage is not None:
            loss = self.usage.note(loss)
        return loss * self.trainer.accumulate_grad_batches

    def _nothing(self) -> Tensor:
        """A slice without a sample: a loss of zero."""
        zero = torch.stack([p.sum() * 0.0 for p in self.model.parameters() if p.requires_grad]).sum()
        self._count = zero.detach() if self._count is None else self._count
        self._total = zero.detach() if self._total is None else self._total
        return zero

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide the summed gradients by the supervised count over ranks and accumulation (not a mean of means).

        A step whose loss or gradient is not finite on some rank, or that has nothing supervised, is skipped on all.
        """
        assert self._count is not None
        assert self._total is not None
        self._rates = rates_of(optimizer)  # once the step is done, the schedule has set those of the next
        self._share()
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        broken_loss = ~torch.isfinite(self._total)
        count, broken = self.ranks.add(torch.stack([self._count, broken_loss.to(self._count)]))
        gradients = [local(p.grad) for p in parameters if p.grad is not None]
        torch._foreach_mul_(gradients, self.ranks.world_size / count.clamp_min(1e-8))
        self._count = self._total = None
        self.proof.record()
        unusable = broken + self.ranks.add(self.proof.broken.to(count)) > 0
        skip_step(optimizer, unusable | (count == 0), sharded=self.usage is not None)
        self.skips.note(self.trainer.global_step + 1, unusable)
        if self.skips.due:
            self.ranks.together(self.skips.check)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by the length that the proof has measured already; of sharded gradients Lightning asks all ranks."""
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        length = None if self.usage is not None else self.proof.length(parameters)
        if gradient_clip_val is None or length is None:
            super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)
            return
        torch.nn.utils.clip_grads_with_norm_(parameters, gradient_clip_val, length)

    def _share(self) -> None:
        """Tell the other ranks what was bad and what was used here since the last step, in one message."""
        used = [] if self.usage is None else self.usage.flags()
        most_bad, *anywhere = self.ranks.maximum([len(self._bad), *used])
        if self.usage is not None:
            self.usage.forget(anywhere)
        bad, self._bad = self._bad, []
        if not most_bad:
            return
        for recipe, key, reason in (hole for holes in self.ranks.gather(bad) for hole in holes):
            self.holes.add(recipe, key, reason)
        data = getattr(self.trainer, "datamodule", None)
        if data is not None:
            self.ranks.together(lambda: self.holes.check(data.consumed(self.trainer.global_step + 1)))

    def share_measures(self) -> None:
        """Give every rank what all of them have measured since the last look."""
        self.meter.load(merged_meters(self.ranks.gather(self.meter.state())))

    def configure_model(self) -> None:
        """Shard the model where the engine says so (it has a mesh of processes then)."""
        if self.device_mesh is not None:
            shard(self.model, self.device_mesh["data_parallel"])
            self.usage = Usage(self.model)
            self.proof = GradientProof(self.model, self.plan.trains)

    def configure_optimizers(self) -> Any:
        """The stage's optimizer over the parts that train, with its schedule."""
        tensors = dict(self.model.named_parameters())
        table = parts(self.model)
        groups = {part: [tensors[name] for name in table[part]] for part in self.plan.trains}
        muon = self.settings.muon
        matrices = [] if muon is None else hidden_matrices(self.model, muon.parts)
        optimizer = make_optimizer(groups, self.scales, self.settings, matrices)
        keep_by_name(optimizer, self.model, self.ranks.first)
        schedule = make_schedule(optimizer, self.settings, self.total_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def rates(self) -> dict[str, float]:
        """The learning rates that the last step was taken with, by part."""
        return self._rates

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:  # type: ignore[override]
        """The tensors that the plan saves, under the model's own names; of sharded ones the first rank has all."""
        states = state_by_part(self.model, self.plan.saved)
        named = {name: tensor for tensors in states.values() for name, tensor in tensors.items()}
        return named if self.usage is None else gathered(named, self.ranks.first)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load what a checkpoint of this stage holds; a part that trains and is missing or misshapen is an error."""
        states: dict[str, dict[str, Tensor]] = {part: {} for part in self.plan.trains}
        for name, tensor in state_dict.items():
            states.setdefault(part_of(name), {})[name] = tensor
        return load_parts(self.model, states)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Random states by rank, measures under way and what was counted, so that a resumed run is the unbroken one."""
        randomness = self.ranks.gather(capture_randomness())
        checkpoint["modalign"] = {
            "randomness": randomness[0],
            "randomness_of_others": randomness[1:],
            "meter": merged_meters(self.ranks.gather(self.meter.state())),
            "proof": merged_proofs(self.ranks.gather(self.proof.state())),
            "holes": self.holes.to_dict(),
            "skips": self.skips.to_dict(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up what `on_save_checkpoint` wrote, whatever the number of processes was.

        A rank beyond those that wrote keeps the random numbers that it has been given.
        """
        state = checkpoint["modalign"]
        randomness = [state["randomness"], *state.get("randomness_of_others", [])]
        if self.ranks.rank < len(randomness):
            restore_randomness(randomness[self.ranks.rank])
        if self.ranks.first:  # sums of all ranks: one goes on with them
            self.meter.load(state["meter"])
        self.proof.load(state["proof"])
        self.holes = Holes(self.holes.max_share, earlier=state["holes"])
        self.skips.load(state.get("skips"))
