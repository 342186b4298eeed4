"""Muon for the weights of hidden linear maps, AdamW for everything else, as one optimizer with one state.

Muon (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon) makes a matrix's momentum orthogonal before it is
a step: all directions of the map move equally far, also those whose gradients are small. Embeddings, heads, biases,
norms, positions and query tokens are no maps between hidden states and keep AdamW.

Letters: N matrices of one shape, R rows, C columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from modalign.models.parts import ADAPTERS, match, part_of, parts
from modalign.models.processor import multiplies_half_fast
from modalign.models.shards import like, whole

# Newton-Schulz in fifth order, each round with the odd polynomial that is nearest to 1 over where the round before has
# brought the singular values (Amsel et al., The Polar Express, 2025, https://arxiv.org/abs/2505.16932): from 0.003 to 1
# they end between 0.78 and 1.22. A hundredth is left around each round's range, and twice that below 1, for rounding.
ROUNDS = (
    (8.3837, -24.7659, 18.3571),
    (4.0083, -2.9277, 0.5429),
    (3.4972, -2.5734, 0.5045),
    (2.5161, -1.8339, 0.4266),
)
BELOW_ONE = 1.02
MAPS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
# A map to fewer numbers (a router's, to its experts) is a head.
NARROWEST = 16
# On a CPU narrower maps are as fast in float32.
NARROWEST_IN_HALF = 128
# Matrices of one shape are made orthogonal together, up to so many numbers at a time.
TOGETHER = 1 << 22


def hidden_matrices(model: nn.Module, selectors: Iterable[str]) -> list[nn.Parameter]:
    """Weights of linear maps and convolutions in the parts that the selectors name (`projectors`, `llm`).

    Not the language model's head, whose rows are the vocabulary's, not low-rank adapters, and not what is narrow. A
    modality that this phase does not have may be named.
    """
    names = {part for selector in selectors for part in _selected(selector, list(parts(model)))}
    heads = [getattr(module, "get_output_embeddings", lambda: None)() for module in model.modules()]
    outer = {id(head.weight) for head in heads if head is not None}
    maps = [(part_of(f"{name}.weight"), m) for name, m in model.named_modules() if isinstance(m, MAPS)]
    weights = [(part, cast(nn.Parameter, module.weight)) for part, module in maps]
    return [
        weight
        for part, weight in weights
        if part in names - {ADAPTERS} and id(weight) not in outer and min(weight.flatten(1).shape) >= NARROWEST
    ]


def _selected(selector: str, known: Sequence[str]) -> list[str]:
    """The parts that are meant; a first word that no part has is an error."""
    below = match(selector.split(".")[0], known)
    return [part for part in below if f"{part}.".startswith(f"{selector}.")]


class Muon(torch.optim.AdamW):
    """AdamW whose groups with `muon` (the momentum's decay) take orthogonal steps instead.

    Their rate is the length of a step in the spectral norm, times sqrt(R / C) for maps that widen; decay is decoupled.
    With `found_inf` set, as for AdamW's fused kernel, a step leaves weights and state alone, and nobody waits for it.
    """

    found_inf: Tensor | None = None

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of both; the closure's loss, where there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        groups = self.param_groups
        try:
            self.param_groups = [group for group in groups if group.get("muon") is None]
            super().step()
        finally:
            self.param_groups = groups
        skip = None if self.found_inf is None else self.found_inf > 0
        if skip is not None and skip.device.type == "cpu":  # on the host already: reading it waits for nobody
            if skip.numpy():
                return loss
            skip = None
        self._orthogonal_steps([group for group in groups if group.get("muon") is not None], skip)
        return loss

    def _orthogonal_steps(self, groups: list[dict[str, Any]], skip: Tensor | None) -> None:
        for members in _alike(groups):
            flag = None if skip is None else skip.to(members[0][0].device)
            taken = 1.0 if flag is None else (~flag).float()
            ahead = self._looked_ahead([p for p, _ in members], members[0][1]["muon"], flag, taken)
            steps = orthogonal(torch.stack([whole(one).flatten(1) for one in ahead]))
            steps.mul_(max(1.0, steps.shape[1] / steps.shape[2]) ** 0.5)
            if flag is not None:
                steps = torch.where(flag, 0.0, steps)
            pairs = iter(zip(members, steps, strict=True))
            for _, alike in groupby(pairs, key=lambda pair: id(pair[0][1])):
                _move(list(alike), taken)

    def _looked_ahead(
        self, parameters: list[nn.Parameter], momentum: float, skip: Tensor | None, taken: float | Tensor
    ) -> Sequence[Tensor]:
        """The momenta after these gradients and, as Nesterov has it, one step further."""
        slopes, kept = [], []
        for parameter in parameters:
            state, slope = self.state[parameter], parameter.grad
            assert slope is not None
            if not state:
                state["step"] = torch.zeros((), device=parameter.device)  # AdamW's own loading wants it
                state["momentum"] = torch.zeros_like(parameter)
            state["step"].add_(taken)
            kept.append(state["momentum"])
            slopes.append(slope if skip is None else torch.where(skip, kept[-1], slope))  # stays what it is
        torch._foreach_lerp_(kept, slopes, 1 - momentum)
        return torch._foreach_lerp(slopes, kept, momentum)


def _move(members: list[tuple[tuple[nn.Parameter, dict[str, Any]], Tensor]], taken: float | Tensor) -> None:
    """Decay and step of matrices of one group."""
    group = members[0][0][1]
    own: list[Tensor] = [parameter for (parameter, _), _ in members]
    if decay := group["lr"] * group["weight_decay"]:
        torch._foreach_mul_(own, 1 - decay * taken)
    moved = [like(p, step.view(p.shape).to(p.dtype)) for (p, _), step in members]
    torch._foreach_sub_(own, moved, alpha=group["lr"])


def _alike(groups: Iterable[dict[str, Any]]) -> Iterator[list[tuple[nn.Parameter, dict[str, Any]]]]:
    """Those with a gradient, each with its group: of all groups together, by shape and where they are."""
    found: dict[Any, list[tuple[nn.Parameter, dict[str, Any]]]] = {}
    for group in groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                kind = parameter.shape, parameter.device, parameter.dtype, group["muon"]
                found.setdefault(kind, []).append((parameter, group))
    for members in found.values():
        count = max(1, TOGETHER // members[0][0].numel())
        for first in range(0, len(members), count):
            yield members[first : first + count]


def orthogonal(matrices: Float[Tensor, "N R C"]) -> Float[Tensor, "N R C"]:
    """Each matrix with its singular values near 1 and its singular vectors kept; one of zeros stays zero.

    In bfloat16, as published, where the device multiplies it fast; else in float32.
    """
    turned = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if turned else matrices
    x = x.to(torch.bfloat16 if _fast_in_half(x) else torch.float32)
    x = x / (BELOW_ONE * torch.linalg.matrix_norm(x.float(), keepdim=True).clamp_min(1e-7)).to(x.dtype)
    for first, third, fifth in ROUNDS:
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=third, alpha=fifth), x, beta=first)
    return (x.mT if turned else x).float()


def _fast_in_half(x: Tensor) -> bool:
    """Whether products of this size are faster in bfloat16: on a GPU, and on a processor that multiplies it fast
    where a matrix is wide enough to repay the conversion."""
    native = x.device.type == "cpu" and multiplies_half_fast() and x.shape[1] >= NARROWEST_IN_HALF
    return x.is_cuda or native
