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
    """The parts that train, and all others; `begun` are those of the others that no earlier run holds."""

    trains: tuple[str, ...]
    frozen: tuple[str, ...]
    begun: tuple[str, ...] = ()

    @property
    def saved(self) -> tuple[str, ...]:
        """What a checkpoint has to hold: what trains, and what could be had from nowhere else."""
        return (*self.trains, *self.begun)

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
        self.broken = torch.zeros((), dtype=torch.bool)
        # By part: the greatest length of a finite gradient, whether one was not finite, and who has had any at all.
        self._lengths, self._nonfinite = torch.zeros(len(names)), torch.zeros(len(names), dtype=torch.bool)
        self._had: set[str] = set()
        self._norms: Tensor | None = None  # of the last step's gradients, one part after the other
        self._counts: tuple[int, ...] = ()  # how many of them each part has
        self._places: dict[tuple[int, ...], Tensor] = {}

    @torch.no_grad()
    def record(self) -> None:
        """To be called after backward, before the optimizer's step; `broken`: some gradient of it was not finite."""
        grads = [[p.grad for p in group if p.grad is not None] for group in self.groups.values()]
        self._counts = tuple(map(len, grads))
        found = [local(grad) for group in grads for grad in group]
        if not found:
            self._norms, self.broken = None, self.broken.new_zeros(())
            return
        norms = torch._foreach_norm(found)
        alike = len({norm.dtype for norm in norms}) == 1
        self._norms = torch.stack(norms).float() if alike else torch.stack([norm.float() for norm in norms])
        device = self._norms.device
        if self._counts not in self._places:
            whose = torch.repeat_interleave(torch.tensor(self._counts))
            self._places[self._counts] = whose.to(device)
            self._had.update(name for name, count in zip(self.groups, self._counts, strict=True) if count)
            self._lengths, self._nonfinite = self._lengths.to(device), self._nonfinite.to(device)
        length = self._norms.new_zeros(len(self.groups)).index_add_(0, self._places[self._counts], self._norms)
        broken = ~torch.isfinite(length)
        self._lengths = torch.maximum(self._lengths, length.masked_fill(broken, 0.0))
        self._nonfinite = self._nonfinite | broken
        self.broken = broken.any()

    def length(self, parameters: Iterable[nn.Parameter]) -> Tensor | None:
        """The length of the last step's gradients of all these together, of what this process holds of them.

        Summed in their order, as torch's clipping does, so that its bits are the same.
        """
        if self._norms is None:
            return None
        had = (p for group in self.groups.values() for p in group if p.grad is not None)
        places = {id(parameter): place for place, parameter in enumerate(had)}
        order = [places[id(parameter)] for parameter in parameters]
        return torch.linalg.vector_norm(self._norms[order])

    @property
    def latest(self) -> dict[str, Tensor]:
        """The lengths of the last step's gradients, by part."""
        if self._norms is None:
            return {}
        split = self._norms.split(self._counts)
        return {name: norms for name, norms in zip(self.groups, split, strict=True) if len(norms)}

    def result(self) -> dict[str, str]:
        """By part: ok, zero, none (no gradient ever came) or nonfinite."""
        return {name: self._verdict(name) for name in self.groups}

    def state(self) -> dict[str, dict[str, Tensor]]:
        """What a checkpoint keeps of the proof so far."""
        lengths, nonfinite = self._lengths.cpu(), self._nonfinite.cpu()
        had = {place: name for place, name in enumerate(self.groups) if name in self._had}
        return {
            "lengths": {name: lengths[place].clone() for place, name in had.items()},
            "nonfinite": {name: nonfinite[place].clone() for place, name in had.items()},
        }

    def load(self, state: dict[str, dict[str, Tensor]]) -> None:
        """Take up a kept proof."""
        self._had = set(state["lengths"])
        self._places.clear()  # what has had a gradient is noted anew
        for kind, values in (("lengths", self._lengths), ("nonfinite", self._nonfinite)):
            values.zero_()
            for place, name in enumerate(self.groups):
                if name in state[kind]:
                    values[place] = state[kind][name]

    def _verdict(self, name: str) -> str:
        place = list(self.groups).index(name)
        if name not in self._had:
            return "none"
        if float(self._lengths[place]) > 0:
            return "ok"
        return "nonfinite" if bool(self._nonfinite[place]) else "zero"


def merged_proofs(states: Sequence[dict[str, dict[str, Tensor]]]) -> dict[str, dict[str, Tensor]]:
    """One state from those of all ranks: what one of them has seen was there."""
    merged: dict[str, dict[str, Tensor]] = {"lengths": {}, "nonfinite": {}}
    for state in states:
        for kind, found in state.items():
            for name, value in found.items():
                merged[kind][name] = torch.maximum(merged[kind].get(name, value), value)
    return merged
