"""From recipes to sources of samples: makes what is missing, opens shards, joins decoders and templates."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from modalign.config.build import build
from modalign.config.recipes import RecipeBook
from modalign.config.schema import Settings, StageSettings
from modalign.config.variants import variant_sizes
from modalign.data.augment import Augmented
from modalign.data.cache import DiskCache
from modalign.data.dataset import Reader, Source
from modalign.data.manifest import MANIFEST_NAME, read_manifest
from modalign.data.order import Stream, derive_seed
from modalign.data.reader import ShardReader
from modalign.data.recipes import Recipe, make_hint
from modalign.data.stream import open_stream
from modalign.data.templates import CaptionTemplate, ChatTemplate, Template, TextTemplate
from modalign.errors import ModalignError, unknown_name
from modalign.runs.holes import Holes
from modalign.stages.decoded import DecodedCache

log = logging.getLogger(__name__)


class SourceBook:
    """Opens recipes as sources; decoders are built once a modality, decoded samples are kept in one bounded cache."""

    def __init__(self, settings: Settings, book: RecipeBook) -> None:
        self.settings = settings
        self.book = book
        self.cache = DecodedCache(settings.data.cache_mb * 2**20)
        kept = settings.data.shard_cache
        self.shard_cache = DiskCache(kept, round(settings.data.shard_cache_gb * 1e9)) if kept is not None else None
        self.holes = Holes(settings.data.max_bad_share, once=True)  # bad samples among those that are measured
        self._decoders: dict[str, Any] = {}

    def decoder(self, modality: str, where: str = "") -> Any:
        """The modality's decoder; ModalignError for one that the settings do not have, with `where` it was named."""
        if modality not in self._decoders:
            if modality not in self.settings.modalities:
                raise unknown_name("modality", modality, self.settings.modalities, where)
            declared = self.settings.modalities[modality].decoder
            self._decoders[modality] = build(declared, f"modalities.{modality}.decoder")
        return self._decoders[modality]

    def augmentations(self, modality: str) -> list[Any]:
        """What changes the modality's decoded samples in training."""
        declared = self.settings.modalities[modality].augment
        return [build(each, f"modalities.{modality}.augment[{number}]") for number, each in enumerate(declared)]

    def _read_decoder(self, modality: str, training: bool, where: str) -> Callable[..., Tensor]:
        """The modality's decoder with its results kept, followed by the modality's augmentations in training."""
        decoder = self.cache.wrap(self.decoder(modality, where))
        changes = self.augmentations(modality) if training else []
        return Augmented(decoder, changes) if changes else decoder

    def ensure(self, names: Sequence[str]) -> None:
        """Make the shards of generated recipes that are not there; for others say what is missing."""
        missing = [name for name in names if not self.present(name)]
        generated = [name for name in missing if self.book.is_generated(name)]
        for name in missing:
            if name not in generated:
                recipe = self.book.get(name)
                raise ModalignError(f"recipe {name}: nothing at {self.book.folder(name)}: {make_hint(recipe)}")
        if generated:
            from modalign.world.build import make_world

            log.info("making %s of the embedded world", ", ".join(generated))
            make_world(self.book.world_settings, self.book.data_root() / "world", generated)

    def source(
        self, name: str, split: str, template: Template, stage: StageSettings | None = None, drawn: str = ""
    ) -> Source:
        """One recipe's split as a source; `stage` orders it (training), as drawn for a phase (`RunSpec.drawn`); without
        one it is read in shard order."""
        recipe = self.book.get(name)
        seed = derive_seed(self.settings.seed, "phase", drawn) if drawn else self.settings.seed
        reader = self._reader(recipe, split, stage is not None, seed)
        decoders = {m: self._read_decoder(m, stage is not None, f"recipe {name}: media") for m in recipe.media}
        prompts: dict[str, Sequence[str]] = {m: self.settings.modalities[m].prompts for m in recipe.media}
        data = self.settings.data
        count = min(len(reader), (self.book.train_limit(name) if split == "train" else None) or len(reader))
        stream = Stream(count, seed, data.block, data.window, shuffle=stage is not None)
        return Source(recipe, reader, decoders, template, stream, prompts, seed, self.lengths(recipe))

    def lengths(self, recipe: Recipe) -> dict[str, Mapping[str, int]]:
        """How many values each variant of the recipe's vectors has, by modality: what their tokenizers take."""
        return {modality: sizes for modality in recipe.media if (sizes := self.sizes(modality))}

    def sizes(self, modality: str) -> Mapping[str, int]:
        """The length of each of its variants."""
        return variant_sizes(self.settings.modalities, modality)

    def _reader(self, recipe: Recipe, split: str, training: bool, seed: int) -> Reader:
        folder = self.book.folder(recipe.name)
        if training and self.settings.data.reader == "webdataset":
            log.warning("recipe %s is streamed: a resumed run reads other samples than an unbroken one", recipe.name)
            return open_stream(recipe, folder, split, seed)
        piece_bytes = round(self.settings.data.piece_mb * 2**20)
        return ShardReader(folder / split, hint=make_hint(recipe), cache=self.shard_cache, piece_bytes=piece_bytes)

    def digest(self, name: str) -> str:
        """The digest of the training split's shards."""
        return read_manifest(self.book.folder(name) / "train").digest

    def present(self, name: str) -> bool:
        """Whether the recipe's shards are there."""
        folder = self.book.folder(name)
        if not self.book.is_generated(name):
            return (folder / "train" / MANIFEST_NAME).is_file()
        splits = self.book.world_settings.sizes.get(name.removeprefix("world_"), {})
        return all((folder / split / MANIFEST_NAME).is_file() for split, count in splits.items() if count)


def template_of(stage: StageSettings) -> Template:
    """The template that a stage names."""
    if stage.template == "text":
        return TextTemplate()
    if stage.template == "chat":
        return chat_template(stage, stage.caption_share)
    return CaptionTemplate()


def chat_template(stage: StageSettings, caption_share: float = 0.0) -> ChatTemplate:
    """The stage's chat layout."""
    chat = stage.chat
    return ChatTemplate(chat.system, chat.user, chat.assistant, chat.stop, caption_share)
