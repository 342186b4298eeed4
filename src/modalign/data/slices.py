"""Slices by number: item n is this rank's share of slice n, whatever the workers, restarts or the rest of the world."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol, TypeVar

import torch
from torch.utils.data import Dataset

from modalign.data.collate import Collator
from modalign.data.dataset import Source, Use
from modalign.data.spread import Spread
from modalign.errors import BadSample, ModalignError, unknown_name
from modalign.types import Batch, MediaSpan, Sample

Found = TypeVar("Found")


class Schedule(Protocol):
    """Which source slice n belongs to, and how many of that source's slices came before it."""

    def at(self, n: int) -> tuple[str, int]:
        """(source, occurrence) of slice `n`."""


class DataError(ModalignError):
    """What stopped a slice; takes off the traceback in which a DataLoader's worker wraps an error's text."""

    def __init__(self, message: str) -> None:
        super().__init__(message.rpartition(f"{type(self).__name__}: ")[2])


class SliceDataset(Dataset[Batch]):
    """Map-style and unbounded: item n is the collated share of this rank in slice n, the n-th of the schedule.

    Slice k of a source is positions k * slice_size … of its stream; rank r has the r-th contiguous part. Bad samples
    and those that `max_text_tokens` cuts before their answer begins are left out and named in the batch's `holes` as
    (recipe, key, reason); a batch may be empty for that reason, or,
    with `stand_in`, idle: another sample of the source, whose loss counts nothing, so that this rank computes what the
    others do. Whatever else is wrong raises DataError. Large samples are decoded by up to `threads` threads.
    """

    def __init__(
        self,
        sources: Mapping[str, Source],
        schedule: Schedule,
        slice_size: int,
        rank: int,
        world_size: int,
        collator: Collator,
        stand_in: bool = False,
        threads: int = 1,
    ) -> None:
        if slice_size < 1 or world_size < 1 or not 0 <= rank < world_size:
            raise ModalignError(f"no rank {rank} of {world_size} with slices of {slice_size} samples")
        if slice_size % world_size:
            raise ModalignError(
                f"a slice of {slice_size} samples does not divide among {world_size} processes: "
                f"choose a batch size that is a multiple of {world_size}"
            )
        self.sources, self.schedule, self.collator = dict(sources), schedule, collator
        self.slice_size, self.rank, self.world_size = slice_size, rank, world_size
        self.stand_in = stand_in
        self.spread = Spread(threads)

    def __getitem__(self, n: int) -> Batch:
        try:
            return self._slice(n)
        except ModalignError as error:
            raise DataError(str(error)) from error

    def _slice(self, n: int) -> Batch:
        name, occurrence = self.schedule.at(n)
        if name not in self.sources:
            raise unknown_name("source", name, self.sources, "the schedule")
        source, share = self.sources[name], self.slice_size // self.world_size
        first = occurrence * self.slice_size + self.rank * share
        positions = range(first, first + share)
        samples, holes = self._read(source, positions, "outputs" if source.shelves else "nothing")
        if source.shelves and (holes or not _alike(samples)):
            # A slice is computed whole or not at all, in its full size: an output's last bits may hang on how many
            # media are computed together.
            samples, holes = self._read(source, positions, "nothing" if holes else "names")
        if samples or not self.stand_in:
            return self.collator(samples, name, holes)
        batch = self.collator([self._any_sample(source)], name, holes)
        return replace(batch, loss_weights=torch.zeros_like(batch.loss_weights), supervised=(), idle=True)

    def _read(
        self, source: Source, positions: Sequence[int], use: Use
    ) -> tuple[list[Sample], list[tuple[str, str, str]]]:
        """The samples at these positions, and what is bad among them; shelves are one thread's."""
        if source.shelves or self.spread.threads < 2:
            made = [_or_bad(partial(source.sample, position, use)) for position in positions]
        else:
            made = _read_and_spread(source, positions, self.spread)
        made = [one if isinstance(one, BadSample) else _or_bad(partial(self.collator.checked, one)) for one in made]
        holes = [(source.recipe.name, one.key, one.reason) for one in made if isinstance(one, BadSample)]
        return [one for one in made if not isinstance(one, BadSample)], holes

    def _any_sample(self, source: Source) -> Sample:
        """The source's first sample that is not bad."""
        bad: BadSample | None = None
        for index in range(len(source)):
            try:
                return self.collator.checked(source.at(index))
            except BadSample as error:
                bad = bad or error
        name = source.recipe.name
        raise ModalignError(f"recipe {name} has no usable sample: {bad}; run `modalign verify {name} --decode`")


def _read_and_spread(source: Source, positions: Sequence[int], spread: Spread) -> list[Sample | BadSample]:
    """Files are read one after another, then decoded together."""
    stored = [_or_bad(partial(source.stored, position)) for position in positions]

    def make(number: int) -> Sample | BadSample:
        one = stored[number]
        return one if isinstance(one, BadSample) else _or_bad(partial(source.made, *one, positions[number]))

    size = sum(len(m) for one in stored if not isinstance(one, BadSample) for m in one[0].members.values())
    return spread.map(make, range(len(stored)), size)


def _or_bad(make: Callable[[], Found]) -> Found | BadSample:
    try:
        return make()
    except BadSample as bad:
        return bad


def _alike(samples: Sequence[Sample]) -> bool:
    """Whether the media of each modality have all come equally far."""
    reached: dict[str, str] = {}
    media = [span for sample in samples for span in sample.spans if isinstance(span, MediaSpan)]
    return all(reached.setdefault(span.modality, span.reached) == span.reached for span in media)
