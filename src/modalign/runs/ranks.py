"""The processes of one run: which of them this is, and the few things that they do together.

Everything here goes over the host (gloo), beside the gradients' own group: it waits as long as it takes, since the
first process measures and writes while the others have nothing to do.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from modalign.errors import ModalignError, ToldElsewhere
from modalign.runs.interrupt import Interrupted
from modalign.runs.launch import Launch, meeting_point

T = TypeVar("T")
PATIENCE = timedelta(days=30)
MEETING = timedelta(minutes=10)
# Longer than writing any checkpoint: a step that hangs is the watchdog's to notice.
STEP = timedelta(hours=12)
_FAILED = "failed"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ranks:
    """Process `rank` of `world_size`; alone, everything is done by itself and nothing is sent."""

    launch: Launch = field(default_factory=Launch)
    group: Any = None
    store: Any = None

    @property
    def rank(self) -> int:
        """The number of this process."""
        return self.launch.rank

    @property
    def world_size(self) -> int:
        """How many processes there are."""
        return self.launch.world_size

    @property
    def first(self) -> bool:
        """Whether this is the process that writes, logs and tells."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        return self.world_size == 1

    def gather(self, value: T) -> list[T]:
        """Everybody's plain value, by rank, to everybody."""
        if self.alone:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value, group=self.group)
        return values

    def from_first(self, value: T) -> T:
        """The first process's plain value."""
        if self.alone:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.group)
        return box[0]

    def maximum(self, numbers: Sequence[int]) -> list[int]:
        """The largest of everybody's numbers, place by place; cheap enough for every step."""
        if self.alone:
            return list(numbers)
        tensor = torch.tensor(numbers, dtype=torch.int64)
        dist.all_reduce(tensor, dist.ReduceOp.MAX, group=self.group)
        return [int(number) for number in tensor]

    def add(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum of everybody's tensor, on its device, without waiting for it."""
        if not self.alone:
            tensor = tensor.clone()
            dist.all_reduce(tensor)
        return tensor

    def rows(self, tensor: torch.Tensor) -> torch.Tensor:
        """Everybody's rows [N, ...] by rank, with gradients: each rank's rows get the sum of what all ranks say."""
        if self.alone:
            return tensor
        return _AllRows.apply(tensor, [int(count) for count in self.gather(len(tensor))], self.rank)

    def together(self, action: Callable[[], T]) -> T:
        """Everybody does `action`, or nobody goes on: where one fails, the lowest rank that did tells its error."""
        if self.alone:
            return action()
        error: ModalignError | None = None
        try:
            result = action()
        except ModalignError as raised:
            error = raised
        own = None if error is None or isinstance(error, ToldElsewhere) else (str(error), error.exit_code)
        outcomes = self.gather((error is None, own))
        if all(done for done, _ in outcomes):
            return result
        rank, (message, exit_code) = next((r, told) for r, (_, told) in enumerate(outcomes) if told is not None)
        if rank == self.rank:
            assert error is not None
            raise error
        raise ToldElsewhere(message, exit_code)

    def of_first(self, action: Callable[[], T]) -> T:
        """What the first process finds or decides; its error ends all."""
        found = self.together(lambda: [action()] if self.first else [])
        return self.from_first(found)[0]

    def first_then_all(self, action: Callable[[], T]) -> T:
        """The first process does `action` before the others do: what it makes on a shared disk, they find made."""
        if self.alone:
            return action()
        early = self.together(lambda: [action()] if self.first else [])
        return early[0] if early else action()

    @contextlib.contextmanager
    def telling(self) -> Iterator[None]:
        """Within it an error of one process reaches the others, which would only see that it is gone."""
        try:
            yield
        except (ToldElsewhere, Interrupted):
            raise
        except BaseException as error:
            if self.alone:
                raise
            if not _is_lost_connection(error):
                self._publish(error)
                if isinstance(error, ModalignError):
                    error.only_here = True
                raise
            if (words := self._published()) is not None:
                raise ToldElsewhere(words, 1) from error
            first = str(error).strip().splitlines()[0]
            raise LostProcess(
                f"a process of this run is gone without a word, rank {self.rank} noticed ({first}): "
                f"the same command continues from the last checkpoint"
            ) from error

    def _publish(self, error: BaseException) -> None:
        words = str(error) or type(error).__name__
        with contextlib.suppress(RuntimeError):
            self.store.set(_FAILED, f"rank {self.rank}: {words}")

    def _published(self) -> str | None:
        """What another process has failed with; None where it could not say so, or took the store with it."""
        with contextlib.suppress(RuntimeError):
            return self.store.get(_FAILED).decode() if self.store.check([_FAILED]) else None
        return None


class _AllRows(torch.autograd.Function):
    """Gathers unequal numbers of rows; the way back is a sum over ranks of which each takes its own."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, counts: list[int], rank: int) -> torch.Tensor:
        ctx.place = (sum(counts[:rank]), counts[rank])
        padded = tensor.new_zeros(max(counts), *tensor.shape[1:])
        padded[: len(tensor)] = tensor
        everybody = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(everybody, padded)
        return torch.cat([rows[:count] for rows, count in zip(everybody, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        first, count = ctx.place
        return total[first : first + count], None, None


class LostProcess(ModalignError):
    """A process of the run ended without an error of its own (killed, out of memory, its node is down)."""

    exit_code = 1
    only_here = True


def _is_lost_connection(error: BaseException) -> bool:
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error).lower())


ALONE = Ranks()


@contextlib.contextmanager
def joined(launch: Launch, device: str = "cpu", grouped: bool = False) -> Iterator[Ranks]:
    """The ranks of a launch, met and connected; `grouped` makes a process group of one process, too.

    `device` is the kind that computes: gradients go over NCCL between GPUs, over gloo otherwise.
    """
    if launch.world_size == 1 and not grouped:
        yield Ranks(launch)
        return
    store = _meet(launch)
    if device == "cuda":
        torch.cuda.set_device(launch.local_rank)
    backend = "nccl" if device == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=launch.rank, world_size=launch.world_size, timeout=STEP)
    try:
        group = dist.new_group(backend="gloo", timeout=PATIENCE)
        yield Ranks(launch, group, dist.PrefixStore("modalign", store))
    finally:
        dist.destroy_process_group()


def _meet(launch: Launch) -> Any:
    if launch.world_size == 1:
        return dist.HashStore()
    for name, value in meeting_point(launch, os.environ).items():
        os.environ.setdefault(name, value)
    try:
        store, _, _ = next(iter(dist.rendezvous("env://", launch.rank, launch.world_size, timeout=MEETING)))
    except (dist.DistError, ValueError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        raise ModalignError(
            f"{launch.world_size} processes ({launch.by}) did not meet within {MEETING.seconds // 60} minutes: {first}"
        ) from None
    return store
