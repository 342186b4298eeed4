"""Slices by number: item n is this rank's share of slice n, whatever the workers, restarts or the rest of the world."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, Protocol, TypeVar

import torch
from numpy.random import Generator, default_rng
from torch import Tensor
from torch.utils.data import Dataset

from modalign.data.collate import Collator
from modalign.data.decoding import Watched, standard_of
from modalign.data.features import Shelf
from modalign.data.order import derive_seed
from modalign.data.reader import RawSample
from modalign.data.recipes import Recipe
from modalign.data.spread import Spread
from modalign.data.templates import Record, Template
from modalign.errors import BadSample, ModalignError, unknown_name
from modalign.types import Batch, MediaSpan, Sample

Found = TypeVar("Found")
Use = Literal["nothing", "names", "outputs"]
"""What a sample takes from the shelves: nothing, the names to keep outputs under, or the outputs that are there."""

Decoder = Callable[[Any, Generator | None], Tensor]
"""From a member's bytes (a tuple of them, for an extension like "jpg+png") to a float32 tensor; raises ValueError.

One that gives 8-bit levels instead says in its attribute `standard` how they are standardised later.
"""


class Reader(Protocol):
    """Where raw samples come from: ShardReader, or a stream that takes the index for a mere count."""

    def __len__(self) -> int:
        """The number of samples in a pass."""

    def read(self, index: int, extensions: Sequence[str] | None = None) -> RawSample:
        """A raw sample, its members or those named; raises BadSample."""


class Schedule(Protocol):
    """Which source slice n belongs to, and how many of that source's slices came before it."""

    def at(self, n: int) -> tuple[str, int]:
        """(source, occurrence) of slice `n`."""


class Source:
    """One recipe's split made into samples: read, decode, put into a template.

    `decoders` maps modality to decoder; `prompts` maps modality to caption prompts (and "pair" to those for several
    media in one sample, which are not asked for captions without); `stream` maps a position to (epoch, index). A
    sample's randomness is keyed by seed, recipe, key and position.
    """

    def __init__(
        self,
        recipe: Recipe,
        reader: Reader,
        decoders: Mapping[str, Decoder],
        template: Template,
        stream: Callable[[int], tuple[int, int]],
        prompts: Mapping[str, Sequence[str]] | None = None,
        seed: int = 0,
    ) -> None:
        for modality in recipe.media:
            if modality not in decoders:
                raise unknown_name("modality", modality, decoders, f"recipe {recipe.name}")
        self.recipe, self.reader, self.template, self.stream = recipe, reader, template, stream
        self.decoders = {modality: decoders[modality] for modality in recipe.media}
        self.seed = seed
        self.shelves: dict[str, Shelf] = {}  # by modality, where outputs of frozen parts are kept
        self.prompts = recipe.prompts or tuple((prompts or {}).get(self._prompt_name(), ()))
        alone = len(recipe.media) == 1 or recipe.task == "caption"
        if recipe.media and alone and not self.prompts and template.needs_prompts(recipe.task):
            raise ModalignError(f"recipe {recipe.name}: no caption prompts are declared for '{self._prompt_name()}'")

    def __len__(self) -> int:
        return len(self.reader)

    def sample(self, position: int, use: Use = "nothing") -> Sample:
        """The sample at a position of the stream; raises BadSample where it does not read, decode or say anything."""
        return self.made(*self.stored(position), position, use)

    def stored(self, position: int) -> tuple[RawSample, int, int]:
        """The sample at a position of the stream as it is on disk, its epoch and its index; raises BadSample."""
        epoch, index = self.stream(position)
        return self._read(index), epoch, index

    def made(self, raw: RawSample, epoch: int, index: int, position: int, use: Use = "nothing") -> Sample:
        """The sample at a position from what is stored; any thread may call it where nothing is kept on shelves."""
        sample = self._made(raw, index, position, use)
        return Sample(sample.key, sample.recipe, sample.spans, sample.meta | {"epoch": epoch, "position": position})

    def at(self, index: int) -> Sample:
        """Sample `index` on disk, nothing in it random (evaluation)."""
        return self._made(self._read(index), index, None, "nothing")

    def _made(self, raw: RawSample, index: int, position: int | None, use: Use) -> Sample:
        rng = None if position is None else default_rng(derive_seed(self.seed, self.recipe.name, raw.key, position))
        record = self.record(raw)
        media = self._decode(raw, record, rng, use)
        try:
            spans = self.template.spans(media, record, self.prompts, rng)
        except ValueError as error:
            raise BadSample(raw.key, str(error)) from error
        return Sample(raw.key, self.recipe.name, spans, record | {"index": index})

    def media(self, index: int, rng: Generator | None = None) -> tuple[str, list[MediaSpan], Record]:
        """Key, decoded media and record of sample `index`, for evaluation, which words its prompts itself."""
        raw = self._read(index)
        record = self.record(raw)
        return raw.key, self._decode(raw, record, rng), record

    def record(self, raw: RawSample) -> Record:
        """The sample's words as a mapping; raises BadSample where they are not JSON."""
        try:
            record = json.loads(raw.members[self.recipe.text])
        except KeyError as error:
            raise BadSample(raw.key, f"no .{self.recipe.text} member (it has: {_names(raw)})") from error
        except ValueError as error:
            raise BadSample(raw.key, f".{self.recipe.text} is not JSON: {error}") from error
        if not isinstance(record, dict):
            raise BadSample(raw.key, f".{self.recipe.text} holds a {type(record).__name__}, not a mapping")
        return record

    def _read(self, index: int) -> RawSample:
        wanted = [self.recipe.text]
        for extension in self.recipe.media.values():
            wanted += extension.split("+")
        return self.reader.read(index, wanted)

    def _decode(self, raw: RawSample, record: Record, rng: Generator | None, use: Use = "nothing") -> list[MediaSpan]:
        variant = self._variant(raw, record)
        return [
            self._shelved(raw, modality, rng, use)
            if use != "nothing" and modality in self.shelves and rng is not None and variant is None
            else decoded_span(modality, self.decoders[modality], self._decode_one(raw, modality, rng), variant)
            for modality in self.recipe.media
        ]

    def _shelved(self, raw: RawSample, modality: str, rng: Generator, use: Use) -> MediaSpan:
        """What frozen parts have made of the medium, or else the medium, which may be kept if nothing in it is random.

        Vectors are not kept: they are padded to the longest of their slice.
        """
        shelf = self.shelves[modality]
        name = shelf.name(self._content(raw, modality))
        if use == "outputs" and (found := shelf.find(name)) is not None:
            return MediaSpan(modality, found, reached=shelf.reached)
        watched = Watched(rng)
        value = self._decode_one(raw, modality, watched)
        kept_as = None if watched.used or value.ndim < 2 else name
        return decoded_span(modality, self.decoders[modality], value, kept_as=kept_as)

    def _decode_one(self, raw: RawSample, modality: str, rng: Any) -> Tensor:
        content = self._content(raw, modality)
        try:
            return self.decoders[modality](content if len(content) > 1 else content[0], rng)
        except ValueError as error:
            extension = self.recipe.media[modality]
            raise BadSample(raw.key, f".{extension} does not decode as {modality}: {error}") from error

    def _content(self, raw: RawSample, modality: str) -> tuple[bytes, ...]:
        members = self.recipe.media[modality].split("+")
        for member in members:
            if member not in raw.members:
                raise BadSample(raw.key, f"no .{member} member (it has: {_names(raw)})")
        return tuple(raw.members[member] for member in members)

    def _variant(self, raw: RawSample, record: Record) -> str | None:
        if self.recipe.variant_key is None:
            return None
        if self.recipe.variant_key not in record:
            raise BadSample(raw.key, f"its record lacks '{self.recipe.variant_key}', which names the variant")
        return str(record[self.recipe.variant_key])

    def _prompt_name(self) -> str:
        return next(iter(self.recipe.media)) if len(self.recipe.media) == 1 else "pair"


def decoded_span(modality: str, decoder: Decoder, value: Tensor, variant: str | None = None, **more: Any) -> MediaSpan:
    """What a decoder gave, with how it is to be standardised where it gave levels."""
    return MediaSpan(modality, value, variant, standard=standard_of(decoder), **more)


class DataError(ModalignError):
    """What stopped a slice; takes off the traceback in which a DataLoader's worker wraps an error's text."""

    def __init__(self, message: str) -> None:
        super().__init__(message.rpartition(f"{type(self).__name__}: ")[2])


class SliceDataset(Dataset[Batch]):
    """Map-style and unbounded: item n is the collated share of this rank in slice n, the n-th of the schedule.

    Slice k of a source is positions k * slice_size … of its stream; rank r has the r-th contiguous part. Bad samples
    are left out and named in the batch's `holes` as (recipe, key, reason); a batch may be empty for that reason, or,
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
        samples, holes = _read(source, positions, "outputs" if source.shelves else "nothing", self.spread)
        if source.shelves and (holes or not _alike(samples)):
            # A slice is computed whole or not at all, in its full size: an output's last bits may hang on how many
            # media are computed together.
            samples, holes = _read(source, positions, "nothing" if holes else "names", self.spread)
        if samples or not self.stand_in:
            return self.collator(samples, name, holes)
        batch = self.collator([_any_sample(source)], name, holes)
        return replace(batch, loss_weights=torch.zeros_like(batch.loss_weights), supervised=(), idle=True)


def _read(
    source: Source, positions: Sequence[int], use: Use, spread: Spread
) -> tuple[list[Sample], list[tuple[str, str, str]]]:
    """The samples at these positions, and what is bad among them."""
    stored = [_or_bad(partial(source.stored, position)) for position in positions]

    def make(number: int) -> Sample | BadSample:
        one = stored[number]
        return one if isinstance(one, BadSample) else _or_bad(partial(source.made, *one, positions[number], use))

    size = sum(len(m) for one in stored if not isinstance(one, BadSample) for m in one[0].members.values())
    made = spread.map(make, range(len(stored)), 0 if source.shelves else size)
    holes = [(source.recipe.name, one.key, one.reason) for one in made if isinstance(one, BadSample)]
    return [one for one in made if not isinstance(one, BadSample)], holes


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


def _any_sample(source: Source) -> Sample:
    """The source's first sample that is not bad."""
    bad: BadSample | None = None
    for index in range(len(source)):
        try:
            return source.at(index)
        except BadSample as error:
            bad = bad or error
    raise ModalignError(f"recipe {source.recipe.name} has no usable sample: {bad}; run `modalign verify` on it")


def _names(raw: RawSample) -> str:
    return ", ".join(sorted(raw.members)) or "none of those the recipe names"
