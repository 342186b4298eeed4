"""Where a phase's tensors start from: its parent's, then declared rules from source to target, each accounted for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from modalign.errors import ModalignError
from modalign.models.parts import copy_tensors, part_of

FROM_PARENT = "parent"


@dataclass(frozen=True)
class Copied:
    """What one rule did: `tensors` of `target` now start from `source`."""

    rule: str
    target: str
    source: str
    tensors: int


@runtime_checkable
class Rule(Protocol):
    """A start value: reads the model (already holding its parent's tensors) and writes into it."""

    def apply(self, model: nn.Module, inherited: frozenset[str]) -> list[Copied]:
        """Copies, and says what; `inherited` are the names of tensors that came from the parent."""
        ...


@dataclass(frozen=True)
class PatchFromEncoder:
    """A pixel tokenizer starts from the patch convolution of an encoder."""

    tokenizer: str
    encoder: str

    def apply(self, model: nn.Module, inherited: frozenset[str]) -> list[Copied]:
        """Copies the encoder's patch convolution; sizes must agree."""
        state = model.state_dict()
        source, target = f"encoders.{self.encoder}.patch_weight", f"tokenizers.{self.tokenizer}.conv.weight"
        for name in (source, target):
            if name not in state:
                raise ModalignError(f"start of {target} from {source}: the model has no {name}")
        copy_tensors(state, {target: state[source]}, f"start of {target} from {source}")
        return [Copied("patch_from_encoder", target, source, 1)]


@dataclass(frozen=True)
class ExpertsFromParent:
    """Experts that the parent lacks start as copies of those that it has, in turn.

    Copies differ only by what the router sends them, so `noise` (relative to each tensor's spread) breaks the
    symmetry: it is added to every copy, and to the copied expert too, so that none is privileged.
    """

    projector: str
    noise: float = 0.0
    seed: int = 0

    def apply(self, model: nn.Module, inherited: frozenset[str]) -> list[Copied]:
        """Copies the inherited experts to the others."""
        prefix = f"projectors.{self.projector}.experts."
        state = model.state_dict()
        old, every = _numbers(inherited, prefix), _numbers(state, prefix)
        new = [k for k in every if k not in old]
        if not old:
            return []
        done = []
        for position, k in enumerate(new):
            source = f"{prefix}{old[position % len(old)]}"
            done.append(Copied("experts_from_parent", f"{prefix}{k}", source, _copy(state, source, f"{prefix}{k}")))
        if done and self.noise > 0:
            generator = torch.Generator().manual_seed(self.seed)
            _add_noise(state, (f"{prefix}{k}" for k in every), self.noise, generator)
            counts = {k: sum(name.startswith(f"{prefix}{k}.") for name in state) for k in old}
            done += [Copied("expert_noise", f"{prefix}{k}", f"{prefix}{k}", counts[k]) for k in old]
        return done


@dataclass(frozen=True)
class ModalityFromModality:
    """A new modality's port (queries, projections, tags) and router start from another modality's."""

    target: str
    source: str

    def apply(self, model: nn.Module, inherited: frozenset[str]) -> list[Copied]:
        """Copies in every projector that holds both."""
        state = model.state_dict()
        ends = {f".ports.{self.source}": f".ports.{self.target}", f".router.{self.source}": f".router.{self.target}"}
        done = []
        for source in dict.fromkeys(part_of(name) for name in state):
            for old, new in ends.items():
                target = source.removesuffix(old) + new
                if source.startswith("projectors.") and source.endswith(old) and _has(state, target):
                    done.append(Copied("modality_from_modality", target, source, _copy(state, source, target)))
        return done


def start_from_parent(model: nn.Module, parent_state: Mapping[str, Tensor], rules: Sequence[Rule] = ()) -> list[Copied]:
    """Gives the model its parent's tensors (those under names that it has), then applies the rules in order.

    A rule that copies nothing is an error, and so is a parent of which nothing fits. What the parent has and the
    model has not is reported as `left_out`.
    """
    state = model.state_dict()
    inherited = {name: tensor for name, tensor in parent_state.items() if name in state}
    if parent_state and not inherited:
        raise ModalignError(f"nothing of the parent fits this model; its first tensor is {next(iter(parent_state))}")
    copy_tensors(state, inherited, "the parent")
    done = [Copied(FROM_PARENT, part, part, count) for part, count in _by_part(inherited).items()]
    dropped = _by_part(name for name in parent_state if name not in state)
    done += [Copied("left_out", "", part, count) for part, count in dropped.items()]
    for rule in rules:
        copied = rule.apply(model, frozenset(inherited))
        if not sum(c.tensors for c in copied):
            raise ModalignError(f"the start value {rule} copied nothing: source or target is not in the model")
        done.extend(copied)
    return done


def _by_part(names: Iterable[str]) -> dict[str, int]:
    return dict(Counter(part_of(name) for name in names))


def _numbers(names: Iterable[str], prefix: str) -> list[int]:
    return sorted({int(n[len(prefix) :].split(".")[0]) for n in names if n.startswith(prefix)})


def _has(state: Mapping[str, Tensor], part: str) -> bool:
    return any(name.startswith(part + ".") for name in state)


def _copy(state: Mapping[str, Tensor], source: str, target: str) -> int:
    tensors = {target + n[len(source) :]: t for n, t in state.items() if n.startswith(source + ".")}
    missing = [name for name in tensors if name not in state]
    if missing:
        raise ModalignError(f"start of {target} from {source}: there is no {missing[0]}")
    copy_tensors(state, tensors, f"start of {target} from {source}")
    return len(tensors)


@torch.no_grad()
def _add_noise(state: Mapping[str, Tensor], prefixes: Iterable[str], noise: float, generator: torch.Generator) -> None:
    for prefix in prefixes:
        for name in sorted(n for n in state if n.startswith(prefix + ".")):
            tensor = state[name]
            if tensor.numel() > 1 and not tensor.is_meta:  # shapes alone, as a plan has them
                spread = float(tensor.float().std())
                drawn = torch.randn(tensor.shape, generator=generator) * (noise * spread)
                tensor.add_(drawn.to(tensor))
