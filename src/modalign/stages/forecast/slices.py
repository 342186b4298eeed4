"""A recipe's first slice as training will see it: real words where there are any, media as shapes alone.

The words come from the recipe's shards; of a generated recipe without shards they are made; of any other the numbers
of tokens are assumed (`plan.assume`). Without the text tokenizer tokens are estimated. The slice says which.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import torch
from numpy.random import Generator
from torch import Tensor

from modalign.config.plan_settings import AssumedTokens
from modalign.config.schema import StageSettings
from modalign.data.collate import Collator
from modalign.data.dataset import Reader, Source
from modalign.data.order import Stream
from modalign.data.reader import RawSample, ShardReader
from modalign.data.recipes import Recipe
from modalign.data.slices import SliceDataset
from modalign.errors import ModalignError
from modalign.models.text_tokenizer import TextTokenizer
from modalign.stages.sources import SourceBook, template_of
from modalign.types import Batch
from modalign.world.build import world_sample
from modalign.world.difficulty import WorldSettings

# Three letters and a space: one token of nearly every vocabulary, and one of the estimate below.
FILLER = "the "
CHARACTERS_A_TOKEN = 4

Words = Literal["read", "made", "estimated", "assumed"]


class EstimatedTokenizer(TextTokenizer):
    """Stands for a text tokenizer that is not on this machine: one token for every four characters."""

    def __init__(self, vocab_size: int) -> None:
        self._vocab_size = vocab_size

    @property
    def bos_id(self) -> int | None:
        """A beginning, as nearly every language model has."""
        return 1

    @property
    def eos_id(self) -> int | None:
        """An end."""
        return 2

    @property
    def vocab_size(self) -> int:
        """As many as the language model embeds."""
        return self._vocab_size

    def encode(self, text: str) -> list[int]:
        """As many ids as the text is likely to have."""
        return [0] * -(-len(text) // CHARACTERS_A_TOKEN)


@dataclass(frozen=True)
class Slice:
    """What one process sees of a slice, and where its words are from."""

    recipe: str
    batch: Batch
    words: Words


class Slices:
    """Lays out slices of recipes for a stage, with a text tokenizer, as one of `world_size` processes sees them."""

    def __init__(self, sources: SourceBook, tokenizer: TextTokenizer, world_size: int = 1) -> None:
        self.sources, self.tokenizer, self.world_size = sources, tokenizer, world_size

    def first(self, name: str, stage: StageSettings) -> Slice:
        """The first slice of a recipe."""
        reader, words = self._reader(name)
        if words != "assumed" and isinstance(self.tokenizer, EstimatedTokenizer):
            words = "estimated"
        return Slice(name, self._lay_out(name, stage, reader), words)

    def longest(self, name: str, stage: StageSettings) -> Slice:
        """A slice whose every sample is as long as `max_text_tokens` lets it be, nearly all of it supervised."""
        limit = stage.max_text_tokens or self.sources.settings.model.max_text_tokens
        most = AssumedTokens(caption=limit, question=1, answer=limit, text=limit)
        return Slice(name, self._lay_out(name, stage, self._assuming(name, most)), "assumed")

    def _lay_out(self, name: str, stage: StageSettings, reader: Reader) -> Batch:
        settings, recipe = self.sources.settings, self.sources.book.get(name)
        decoders = {m: _ShapeDecoder(self.shape(name, m)) for m in recipe.media}
        prompts: dict[str, Sequence[str]] = {m: settings.modalities[m].prompts for m in recipe.media}
        data = settings.data
        stream = Stream(len(reader), settings.seed, data.block, data.window)
        source = Source(recipe, reader, decoders, template_of(stage), stream, prompts, settings.seed)
        tokenizer = self.tokenizer
        longest = stage.max_text_tokens or settings.model.max_text_tokens
        collator = Collator(tokenizer.encode, tokenizer.bos_id, tokenizer.eos_id, longest)
        batch = SliceDataset({name: source}, _Only(name), stage.slice_size, 0, self.world_size, collator)[0]
        if not batch.keys:
            _, key, reason = batch.holes[0]
            raise ModalignError(f"recipe {name}: its first samples cannot be used; the first of them, {key}: {reason}")
        return batch

    def shape(self, name: str, modality: str) -> tuple[int, ...]:
        """The shape of a decoded medium: as its decoder or its tokenizer states it, else that of a sample."""
        decoder = self.sources.decoder(modality)
        if (stated := getattr(decoder, "shape", None)) is not None:
            return tuple(stated)
        if sizes := self.sources.settings.modalities[modality].tokenizer.get("sizes"):
            return (max(sizes.values()),)
        recipe = self.sources.book.get(name)
        reader, words = self._reader(name, with_media=True)
        if words == "assumed":
            raise ModalignError(
                f"modalities.{modality}.decoder ({type(decoder).__name__}) does not state the shape that it yields, "
                f"and there is no sample of {name} to decode: give it an attribute `shape`"
            )
        raw = reader.read(0)
        members = tuple(raw.members[extension] for extension in recipe.media[modality].split("+"))
        return tuple(decoder(members if len(members) > 1 else members[0], None).shape)

    def _reader(self, name: str, with_media: bool = False) -> tuple[Reader, Words]:
        book, recipe = self.sources.book, self.sources.book.get(name)
        if self.sources.present(name):
            reader = ShardReader(book.folder(name) / "train")
            return (reader if with_media else _WordsOf(reader, recipe)), "read"
        if book.is_generated(name):
            return _Generated(self.sources.settings.world, name, book.num_samples(name, "train")), "made"
        return self._assuming(name, self.sources.settings.plan.assume), "assumed"

    def _assuming(self, name: str, tokens: AssumedTokens) -> Reader:
        recipe = self.sources.book.get(name)
        variants = [v for m in recipe.media for v in self.sources.settings.modalities[m].tokenizer.get("sizes", ())]
        return _Assumed(recipe, tokens, variants[0] if variants else "")


@dataclass(frozen=True)
class _ShapeDecoder:
    """Gives an empty tensor on no device."""

    shape: tuple[int, ...]

    def __call__(self, data: Any, rng: Generator | None = None) -> Tensor:
        return torch.empty(self.shape, device="meta")


@dataclass(frozen=True)
class _Only:
    """The schedule of a single source."""

    name: str

    def at(self, n: int) -> tuple[str, int]:
        return self.name, n


class _Bare:
    """What readers of words have in common: media are members without content."""

    recipe: Recipe

    def _sample(self, key: str, words: bytes) -> RawSample:
        media = [e for extension in self.recipe.media.values() for e in extension.split("+")]
        return RawSample(key, {**dict.fromkeys(media, b""), self.recipe.text: words})


@dataclass(frozen=True)
class _WordsOf(_Bare):
    """The words of a split's shards."""

    reader: ShardReader
    recipe: Recipe

    def __len__(self) -> int:
        return len(self.reader)

    def read(self, index: int, extensions: Sequence[str] | None = None) -> RawSample:
        raw = self.reader.read(index, [self.recipe.text])
        return self._sample(raw.key, raw.members.get(self.recipe.text, b"{}"))


@dataclass(frozen=True)
class _Generated:
    """Samples of the embedded world, made when they are read."""

    world: Any
    name: str
    count: int

    def __len__(self) -> int:
        return self.count

    def read(self, index: int, extensions: Sequence[str] | None = None) -> RawSample:
        return _made(json.dumps(self.world), self.name, index)


@dataclass(frozen=True)
class _Assumed(_Bare):
    """Samples of a recipe whose data are not here: as many tokens as the settings assume."""

    recipe: Recipe
    tokens: AssumedTokens
    variant: str

    def __len__(self) -> int:
        return 1

    def read(self, index: int, extensions: Sequence[str] | None = None) -> RawSample:
        words = {name: (FILLER * count).strip() for name, count in self.tokens.model_dump().items()}
        record: dict[str, Any] = {"conversation": [{"question": words["question"], "answer": words["answer"]}]}
        if self.recipe.task == "caption":
            record = {"caption": words["caption"]}
        elif self.recipe.task == "text":
            record = {"text": words["text"]}
        if self.recipe.variant_key is not None:
            record[self.recipe.variant_key] = self.variant
        return self._sample(f"assumed-{index}", json.dumps(record).encode())


@lru_cache(maxsize=4096)
def _made(world: str, name: str, index: int) -> RawSample:
    return RawSample(*world_sample(WorldSettings.from_mapping(json.loads(world)), name, "train", index))


def text_tokens(batch: Batch) -> tuple[float, float]:
    """Mean number of text tokens of a sample, and of those that are supervised."""
    count = max(1, len(batch.keys))
    return len(batch.text_ids) / count, int((batch.loss_weights > 0).sum()) / count


def without_content(batch: Batch, convert: Any) -> Batch:
    """The batch with media as `convert` makes them."""
    media = {name: replace(items, values=convert(items.values)) for name, items in batch.media.items()}
    return replace(batch, media=media)
