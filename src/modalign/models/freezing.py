"""What trains and what does not: the plan, its proof by digest, and the proof that what trains had a gradient."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from modalign.errors import ModalignError
from modalign.models.parts import ADAPTERS, declared_parts, match, part_of, parts
from modalign.models.shards import local, whole

HALF = (torch.bfloat16, torch.float16)


class FreezableModule(nn.Module):
    """A module that keeps its frozen parts in eval mode whenever it is put into training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen_parts: tuple[str, ...] = ()

    def train(self, mode: bool = True) -> FreezableModule:
        """As usual, but frozen parts stay in eval mode."""
        super().train(mode)
        for name, module in self.named_modules():
            if part_of(name) in self.frozen_parts:
                module.training = False
        return self


@dataclass(frozen=True)
class FreezePlan:
    """The parts that train, and all others."""

    trains: tuple[str, ...]
    frozen: tuple[str, ...]

    def apply(self, model: FreezableModule) -> None:
        """Sets requires_grad by part, and eval mode for what is frozen."""
        known = parts(model)
        parameters = dict(model.named_parameters())
        for name in self.frozen:
            _freeze(parameters[p] for p in known[name])
        for name in self.trains:
            _unfreeze((parameters[p] for p in known[name]), name)
        model.frozen_parts = self.frozen
        model.train(model.training)


@torch.no_grad()
def keep_in_float32(model: nn.Module) -> list[str]:
    """Give what trains master weights in float32, whatever it was loaded in; returns the names that were changed.

    A step of 1e-5 is lost on a bfloat16 weight: half precision is for what is frozen.
    """
    changed = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter.dtype in HALF:
            parameter.data = parameter.data.float()
            changed.append(name)
    return changed


def _freeze(parameters: Iterable[nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.requires_grad_(False)


def _unfreeze(parameters: Iterable[nn.Parameter], part: str) -> None:
    for parameter in parameters:
        if not parameter.is_floating_point():
            raise ModalignError(
                f"{part} cannot train: its weights are kept in few bits (model.language_model.bits); "
                f"train {ADAPTERS} instead, or set bits=null"
            )
        parameter.requires_grad_(True)


def plan_freeze(model: nn.Module, selectors: Sequence[str]) -> FreezePlan:
    """The plan under which exactly the selected parts train; a selector that matches no declared part is an error."""
    known, declared = parts(model), declared_parts(model)
    chosen = {part for selector in selectors for part in match(selector, declared)} & set(known)
    if not chosen:
        raise ModalignError("nothing would train: name at least one part in train")
    return FreezePlan(tuple(p for p in known if p in chosen), tuple(p for p in known if p not in chosen))


def frozen_digest(model: nn.Module, names: Iterable[str], judge: bool = True) -> dict[str, str]:
    """SHA-256 of the tensors (buffers included) of each part: equal before and after means unchanged to the bit.

    Of a sharded model every process has to ask, so that tensors are whole; one that is no `judge` gets nothing.
    """
    states = {name: hashlib.sha256() for name in names}
    for key, shard in sorted(model.state_dict().items()):
        if (state := states.get(part_of(key))) is None:
            continue
        tensor = whole(shard.detach())
        if judge:
            state.update(key.encode())
            state.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return {name: state.hexdigest() for name, state in states.items()} if judge else {}


class GradientProof:
    """Remembers, by part, whether a finite gradient that is not zero was ever seen; reads nothing back until asked."""

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        known = parts(model)
        parameters = dict(model.named_parameters())
        self.groups = {name: [parameters[p] for p in known[name]] for name in names}
        self.lengths: dict[str, Tensor] = {}
        self.nonfinite: dict[str, Tensor] = {}
        self.latest: dict[str, Tensor] = {}  # the lengths of the last step's gradients, by part
        self.broken = torch.zeros((), dtype=torch.bool)

    @torch.no_grad()
    def record(self) -> None:
        """To be called after backward, before the optimizer's step; `broken`: some gradient of it was not finite."""
        found = []
        self.latest = {}
        for name, group in self.groups.items():
            grads = [local(p.grad) for p in group if p.grad is not None]
            if not grads:
                continue
            self.latest[name] = torch.stack([n.float() for n in torch._foreach_norm(grads)])
            length = self.latest[name].sum()
            broken = ~torch.isfinite(length)
            before = self.lengths.get(name, torch.zeros_like(length)).to(length.device)
            self.lengths[name] = torch.maximum(before, length.masked_fill(broken, 0.0))
            self.nonfinite[name] = self.nonfinite.get(name, torch.zeros_like(broken)).to(broken.device) | broken
            found.append(broken)
        self.broken = torch.stack(found).any() if found else self.broken.new_zeros(())

    def result(self) -> dict[str, str]:
        """By part: ok, zero, none (no gradient ever came) or nonfinite."""
        return {name: self._verdict(name) for name in self.groups}

    def state(self) -> dict[str, dict[str, Tensor]]:
        """What a checkpoint keeps of the proof so far."""
        return {
            "lengths": {name: length.cpu() for name, length in self.lengths.items()},
            "nonfinite": {name: broken.cpu() for name, broken in self.nonfinite.items()},
        }

    def load(self, state: dict[str, dict[str, Tensor]]) -> None:
        """Take up a kept proof."""
        self.lengths, self.nonfinite = dict(state["lengths"]), dict(state["nonfinite"])

    def _verdict(self, name: str) -> str:
        if name not in self.lengths:
            return "none"
        if float(self.lengths[name]) > 0:
            return "ok"
        return "nonfinite" if bool(self.nonfinite[name]) else "zero"


def merged_proofs(states: Sequence[dict[str, dict[str, Tensor]]]) -> dict[str, dict[str, Tensor]]:
    """One state from those of all ranks: what one of them has seen was there."""
    merged: dict[str, dict[str, Tensor]] = {"lengths": {}, "nonfinite": {}}
    for state in states:
        for kind, found in state.items():
            for name, value in found.items():
                merged[kind][name] = torch.maximum(merged[kind].get(name, value), value)
    return merged
