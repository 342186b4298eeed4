"""One recipe's split made into samples: read, decoded, put into a template."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

from numpy.random import Generator, default_rng
from torch import Tensor

from modalign.data.decoding import Watched, standard_of
from modalign.data.features import Shelf
from modalign.data.order import derive_seed
from modalign.data.reader import RawSample
from modalign.data.recipes import Recipe
from modalign.data.templates import Record, Template
from modalign.errors import BadSample, ModalignError, unknown_name
from modalign.types import DEFAULT_VARIANT, MediaSpan, Sample

Use = Literal["nothing", "names", "outputs"]
"""What a sample takes from the shelves: nothing, the names to keep outputs under, or the outputs that are there."""

Decoder = Callable[[Any, Generator | None], Tensor]
"""From a member's bytes (a tuple of them, for an extension like "jpg+png") to a float32 tensor; raises ValueError.

One that gives uint8 levels instead says in its attribute `standard` (a `Standard`) how they are standardised later. It
may be called by several threads at once, so it keeps nothing from one call to the next.
"""


class Reader(Protocol):
    """Where raw samples come from: ShardReader, or a stream that takes the index for a mere count."""

    def __len__(self) -> int:
        """The number of samples in a pass."""

    def read(self, index: int, extensions: Sequence[str] | None = None) -> RawSample:
        """A raw sample, its members or those named; raises BadSample."""


class Source:
    """One recipe's split made into samples: read, decode, put into a template.

    `decoders` maps modality to decoder; `prompts` maps modality to caption prompts (and "pair" to those for several
    media in one sample, which are not asked for captions without); `stream` maps a position to (epoch, index);
    `lengths` maps a modality of vectors to how many values each variant has, and a vector of another length is bad. A
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
        lengths: Mapping[str, Mapping[str, int]] | None = None,
    ) -> None:
        for modality in recipe.media:
            if modality not in decoders:
                raise unknown_name("modality", modality, decoders, f"recipe {recipe.name}")
        self.recipe, self.reader, self.template, self.stream = recipe, reader, template, stream
        self.decoders = {modality: decoders[modality] for modality in recipe.media}
        self.seed, self.lengths = seed, lengths or {}
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
            else decoded_span(modality, self.decoders[modality], self._decode_one(raw, modality, rng, variant), variant)
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

    def _decode_one(self, raw: RawSample, modality: str, rng: Any, variant: str | None = None) -> Tensor:
        content = self._content(raw, modality)
        try:
            value = self.decoders[modality](content if len(content) > 1 else content[0], rng)
            check_length(self.lengths.get(modality, {}), value, variant)
        except ValueError as error:
            extension = self.recipe.media[modality]
            raise BadSample(raw.key, f".{extension} does not decode as {modality}: {error}") from error
        return value

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
    return MediaSpan(modality, value, variant, standard=standard_of(decoder, value), **more)


def check_length(lengths: Mapping[str, int], vector: Tensor, variant: str | None) -> None:
    """ValueError where a vector has another number of values than its variant's tokenizer takes; `lengths` by variant.

    Without a variant it is `default`, or the only one there is.
    """
    name = variant or (DEFAULT_VARIANT if DEFAULT_VARIANT in lengths or len(lengths) != 1 else next(iter(lengths)))
    wanted = lengths.get(name)
    if wanted is not None and vector.ndim == 1 and len(vector) != wanted:
        raise ValueError(f"{len(vector)} values where the tokenizer's variant '{name}' takes {wanted}: set its `sizes`")


def _names(raw: RawSample) -> str:
    return ", ".join(sorted(raw.members)) or "none of those the recipe names"
