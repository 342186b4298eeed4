"""Counts what a training step does, operation by operation: FLOPs and live tensor bytes, each by part of the model.

It works on shapes without content as well as on real tensors. FLOPs are counted with torch's own formulas
(torch.utils.flop_counter: products and convolutions, causal attention in full).
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from modalign.models.parts import part_of
from modalign.stages.forecast.shapes import storage_of

FORWARD, BACKWARD, RECOMPUTE = "forward", "backward", "recompute"
GRADIENTS = "gradients"  # owner of gradients, which outlive the step's activations
ELSEWHERE = "objective"  # owner of what no part of the model does


@dataclass
class Tape:
    """What was counted: FLOPs by (owner, direction); live bytes by owner, and where their sums were highest.

    `peak` is of all bytes; `activations_peak` of all but gradients, `at_peak` being whose they were at that moment.
    """

    flops: Counter[tuple[str, str]] = field(default_factory=Counter)
    live: Counter[str] = field(default_factory=Counter)
    total: int = 0
    peak: int = 0
    activations_peak: int = 0
    at_peak: dict[str, int] = field(default_factory=dict)

    def add(self, owner: str, num_bytes: int) -> None:
        """Bytes that begin to live (end, where negative)."""
        self.live[owner] += num_bytes
        self.total += num_bytes
        if num_bytes > 0:
            self.touch(owner, 0)

    def touch(self, owner: str, more: int, activations: int | None = None) -> None:
        """Note that `more` bytes live for a moment beside those that are tracked, of which so many are activations."""
        self.peak = max(self.peak, self.total + more)
        more = more if activations is None else activations
        if self.activations + more > self.activations_peak:
            self.activations_peak = self.activations + more
            self.at_peak = {name: size for name, size in self.live.items() if size and name != GRADIENTS}
            self.at_peak[owner] = self.at_peak.get(owner, 0) + more

    @property
    def activations(self) -> int:
        """Bytes that live and are no gradients."""
        return self.total - self.live[GRADIENTS]

    def from_here(self) -> None:
        """Peaks are from now on."""
        self.peak, self.activations_peak = self.total, self.activations


@dataclass(slots=True)
class _Storage:
    """A storage that lives: whose it is, how many bytes count, on which tape, and what tells of its end."""

    owner: str
    num_bytes: int
    tape: Tape
    end: weakref.ref[Any]


class Meter(TorchDispatchMode):
    """A context within which everything is counted on `tape`; `watch` tells it which modules are which part."""

    def __init__(self) -> None:
        super().__init__()
        self.tape = Tape()
        self.direction = FORWARD
        self._at_work: list[str] = []
        self._made_by: dict[int, str] = {}
        self._storages: dict[int, _Storage] = {}

    @property
    def owner(self) -> str:
        """The part that is at work."""
        return self._at_work[-1] if self._at_work else ELSEWHERE

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run one operation and count it."""
        kwargs = kwargs or {}
        given = list(_tensors((*args, *kwargs.values())))
        owner = self._owner_of(given)
        for tensor in given:
            self.know(tensor, "")
        if self.direction == FORWARD:
            # The operation's node in the graph was made just before, so it has the last number that was given out.
            self._made_by.setdefault(torch.autograd._get_sequence_nr() - 1, owner)
        result = func(*args, **kwargs)
        if (formula := flop_registry.get(func._overloadpacket)) is not None:
            self.tape.flops[owner, self.direction] += formula(*args, **kwargs, out_val=result)
        for tensor in _tensors((result,)):
            self._note(tensor, owner, storage_of(tensor).nbytes())
        return result

    def know(self, tensor: Tensor, owner: str) -> None:
        """A tensor from before: its bytes count nothing; what is done with it outside any module is `owner`'s."""
        self._note(tensor, owner, 0)

    def relabel(self, tensor: Tensor, owner: str) -> None:
        """The tensor's bytes are `owner`'s from now on."""
        entry = self._storages.get(storage_of(tensor)._cdata)
        if entry is not None and entry.num_bytes:
            entry.tape.live[entry.owner] -= entry.num_bytes
            entry.tape.live[owner] += entry.num_bytes
            entry.owner = owner

    def charge(self, owner: str, direction: str, flops: int) -> None:
        """Count operations that were measured earlier and are not done again."""
        self.tape.flops[owner, direction] += flops

    @contextmanager
    def working(self, owner: str) -> Iterator[None]:
        """Within it, `owner` is at work."""
        self._at_work.append(owner)
        try:
            yield
        finally:
            self._at_work.pop()

    @contextmanager
    def apart(self) -> Iterator[Tape]:
        """A tape of its own for what is done within."""
        kept, direction, self.tape, self.direction = self.tape, self.direction, Tape(), FORWARD
        try:
            yield self.tape
        finally:
            self.tape, self.direction = kept, direction

    @contextmanager
    def watch(self, model: nn.Module) -> Iterator[None]:
        """Within it, modules of the model are at work as their parts, and its weights are known."""
        handles = []
        for name, module in model.named_modules():
            if name:
                handles.append(module.register_forward_pre_hook(_Enter(self._at_work, part_of(name)), prepend=True))
                handles.append(module.register_forward_hook(_Leave(self._at_work), always_call=True))
        for name, parameter in model.named_parameters():
            self.know(parameter, part_of(name))
            if parameter.requires_grad:
                handles.append(parameter.register_post_accumulate_grad_hook(self._own_gradient))
        for buffer in model.buffers():
            self.know(buffer, "")
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def backward(self, loss: Tensor) -> None:
        """Backpropagate; each node's operations are those of the part that made it."""
        seen, nodes = set(), [loss.grad_fn]
        handles = []
        while nodes:
            node = nodes.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            if (owner := self._made_by.get(node._sequence_nr())) is not None:
                handles.append(node.register_prehook(_Take(self._at_work, owner)))
            nodes.extend(following for following, _ in node.next_functions)
        seen.clear()
        self.direction, self._at_work[:] = BACKWARD, [ELSEWHERE]
        try:
            loss.backward()
        finally:
            self.direction, self._at_work[:] = FORWARD, []
            for handle in handles:
                handle.remove()

    def _owner_of(self, given: list[Tensor]) -> str:
        """The part at work, else the one whose weight the operation takes."""
        if not self._at_work:
            for tensor in given:
                entry = self._storages.get(storage_of(tensor)._cdata)
                if entry is not None and entry.owner and not entry.num_bytes:
                    return entry.owner
        return self.owner

    def _own_gradient(self, parameter: Tensor) -> None:
        assert parameter.grad is not None
        self.relabel(parameter.grad, GRADIENTS)

    def _note(self, tensor: Tensor, owner: str, num_bytes: int) -> None:
        storage = storage_of(tensor)
        key = storage._cdata
        if key in self._storages:
            return

        def end(_: Any) -> None:
            gone = self._storages.pop(key)
            gone.tape.add(gone.owner, -gone.num_bytes)

        self._storages[key] = _Storage(owner, num_bytes, self.tape, weakref.ref(storage, end))
        self.tape.add(owner, num_bytes)


def _tensors(values: Sequence[Any]) -> Iterator[Tensor]:
    """The tensors among an operation's arguments or results, which hold them bare or in lists."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


@dataclass(frozen=True, slots=True)
class _Enter:
    at_work: list[str]
    part: str

    def __call__(self, *_: Any) -> None:
        self.at_work.append(self.part)


@dataclass(frozen=True, slots=True)
class _Leave:
    at_work: list[str]

    def __call__(self, *_: Any) -> None:
        self.at_work.pop()


@dataclass(frozen=True, slots=True)
class _Take:
    """In front of a node of the graph: its part is at work from now on."""

    at_work: list[str]
    part: str

    def __call__(self, *_: Any) -> None:
        self.at_work[-1] = self.part
