"""AdamW, or Muon and AdamW, with a learning rate per part; warm-up and cosine counted in optimizer steps."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import torch
from torch.optim.lr_scheduler import LambdaLR

from modalign.config.schema import OptimizerSettings
from modalign.stages.muon import Muon


def make_optimizer(
    parameters: Mapping[str, list[torch.nn.Parameter]],
    scales: Mapping[str, float],
    settings: OptimizerSettings,
    matrices: Collection[torch.nn.Parameter] = (),
) -> torch.optim.AdamW:
    """A parameter group for each part's `matrices` (where Muon is set), its other tensors of two axes and more, and
    the rest, which does not decay.

    AdamW's steps are taken by torch's fused kernel, which needs no memory beside the state; tensors without content
    have none.
    """
    muon = settings.muon
    hidden = set() if muon is None else {id(matrix) for matrix in matrices}
    groups: list[dict[str, object]] = []
    for part, tensors in parameters.items():
        scale, decay = scales.get(part, 1.0), settings.weight_decay
        if muon is not None and (members := [t for t in tensors if id(t) in hidden]):
            own = {"lr": muon.learning_rate * scale, "weight_decay": decay, "muon": muon.momentum}
            groups.append({"params": members, **own, "part": part})
        for decays in (True, False):
            members = [t for t in tensors if id(t) not in hidden and (t.ndim >= 2) == decays]
            if members:
                own = {"lr": settings.learning_rate * scale, "weight_decay": decay if decays else 0.0}
                groups.append({"params": members, **own, "part": part})
    real = not any(t.is_meta for tensors in parameters.values() for t in tensors)
    kind = torch.optim.AdamW if muon is None else Muon
    optimizer = kind(groups, betas=settings.betas, eps=1e-8, fused=real)
    # No precision that is offered scales gradients; with this set Lightning refuses to clip them.
    optimizer._step_supports_amp_scaling = False
    return optimizer


def rates_of(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """The learning rates as they are now by part; that of a part's orthogonal steps as `<part>/muon`."""
    return {
        group["part"] + ("" if group.get("muon") is None else "/muon"): float(group["lr"])
        for group in optimizer.param_groups
    }


def skip_step(optimizer: torch.optim.Optimizer, skip: torch.Tensor, sharded: bool = False) -> None:
    """Have the next step leave weights, decay, momentum and step count alone where `skip` is true, on the device.

    The fused kernel reads this flag where it is, so that nobody waits for it; sharded weights are left out by hand.
    """
    if not sharded and all(group.get("fused") for group in optimizer.param_groups):
        optimizer.found_inf = skip.float()  # type: ignore[attr-defined]
    elif bool(skip):
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None


def make_schedule(optimizer: torch.optim.Optimizer, settings: OptimizerSettings, total_steps: int) -> LambdaLR:
    """Linear warm-up, then half a cosine down to `floor` times the rate at `total_steps` optimizer steps."""
    warmup = min(settings.warmup_steps, max(total_steps - 1, 0))

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = min((step - warmup) / max(total_steps - warmup, 1), 1.0)
        return settings.floor + (1 - settings.floor) * 0.5 * (1 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, factor)
