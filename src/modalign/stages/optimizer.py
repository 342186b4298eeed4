"""AdamW with a learning rate per part, warm-up and cosine counted in optimizer steps."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch.optim.lr_scheduler import LambdaLR

from modalign.config.schema import OptimizerSettings


def make_optimizer(
    parameters: Mapping[str, list[torch.nn.Parameter]], scales: Mapping[str, float], settings: OptimizerSettings
) -> torch.optim.AdamW:
    """One parameter group a part (and, for tensors of less than two axes, one without weight decay).

    Steps are taken by torch's fused kernel, which needs no memory beside the state; tensors without content have none.
    """
    groups: list[dict[str, object]] = []
    for part, tensors in parameters.items():
        rate = settings.learning_rate * scales.get(part, 1.0)
        for decays in (True, False):
            members = [t for t in tensors if (t.ndim >= 2) == decays]
            if members:
                decay = settings.weight_decay if decays else 0.0
                groups.append({"params": members, "lr": rate, "weight_decay": decay, "part": part})
    real = not any(t.is_meta for tensors in parameters.values() for t in tensors)
    optimizer = torch.optim.AdamW(groups, betas=settings.betas, eps=1e-8, fused=real)
    # No precision that is offered scales gradients; with this set Lightning refuses to clip them.
    optimizer._step_supports_amp_scaling = False
    return optimizer


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
