"""A finished run that reads files of its sensors and answers: what `modalign ask` does, for Python.

Letters: N files, Q soft tokens of a file, D width of the language model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from modalign.config.recipes import RecipeBook
from modalign.config.schema import Settings
from modalign.config.variants import check_variant
from modalign.data.collate import Collator
from modalign.data.dataset import check_length, decoded_span
from modalign.errors import ModalignError, unknown_name
from modalign.evaluation.items import Item
from modalign.models.text_tokenizer import TextTokenizer
from modalign.stages.load_run import LoadedRun, load_run
from modalign.stages.measure import Measure
from modalign.stages.sources import SourceBook
from modalign.types import MediaSpan, Sample


@dataclass(frozen=True, slots=True)
class MediaFile:
    """A file of a sensor: its path or its bytes, or several that its decoder takes together.

    `variant` says which subject or device it is of, where the modality has several; `told` is what errors call it.
    """

    modality: str
    content: str | Path | bytes | tuple[bytes, ...]
    variant: str | None = None
    told: str | None = None

    @property
    def name(self) -> str:
        """What errors call it."""
        path = str(self.content) if isinstance(self.content, str | Path) else "given as bytes"
        return self.told or f"{self.modality} {path}"

    def read(self) -> bytes | tuple[bytes, ...]:
        """Its bytes; ModalignError where the file cannot be read."""
        if not isinstance(self.content, str | Path):
            return self.content
        try:
            return Path(self.content).read_bytes()
        except OSError as error:
            raise ModalignError(f"{self.name}: cannot be read, {(error.strerror or str(error)).lower()}") from None


class AskableRun:
    """A loaded run with its decoders, and prompts as its stage lays them out."""

    def __init__(self, loaded: LoadedRun) -> None:
        self.loaded = loaded
        sources = SourceBook(loaded.settings, RecipeBook(loaded.settings))
        self._sources = sources
        self._generate = Measure(sources).generator(loaded.spec.stage, loaded.model)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The sensors that it reads."""
        return self.loaded.spec.modalities

    @property
    def converses(self) -> bool:
        """Whether it takes questions; a run of align says captions."""
        return self.loaded.settings.stages[self.loaded.spec.stage].template == "chat"

    def answer(self, files: Sequence[MediaFile], question: str | None = None) -> str:
        """What it says of the files, in the order in which the model shall see them; greedily.

        Without a question it is asked its first file's own prompt. Raises ModalignError for a sensor that the run does
        not read, a file that does not decode, a question to a run that learned none, and nothing asked at all.
        """
        return self.answers([(files, question)])[0]

    def answers(self, asked: Sequence[tuple[Sequence[MediaFile], str | None]]) -> list[str]:
        """One answer for each, in batches (`evaluation.batch_size`)."""
        decoded = [(self.decoded(files), self._question(files, question)) for files, question in asked]
        return self.say(decoded)

    def say(self, asked: Sequence[tuple[tuple[MediaSpan, ...], str | None]]) -> list[str]:
        """One text for each, of media that are decoded; None asks for a bare caption."""
        items = [(Item(str(n), media, (), {}, (), {}), question) for n, (media, question) in enumerate(asked)]
        return self._generate(items)

    @torch.no_grad()
    def soft_tokens(self, files: Sequence[MediaFile]) -> Float[Tensor, "N Q D"]:
        """What files of one modality become in front of the language model, on the run's device."""
        if len({file.modality for file in files}) != 1:
            raise ModalignError("soft tokens are made of files of one modality: name at least one, and of no other")
        model, modality = self.loaded.model, files[0].modality
        tokenizer = cast(TextTokenizer, model.text_tokenizer)  # a run that can be loaded has one
        collate = Collator(tokenizer.encode, tokenizer.bos_id, tokenizer.eos_id, require_targets=False)
        samples = [Sample(str(n), "", self.decoded([file])) for n, file in enumerate(files)]
        batch = collate(samples).to(next(model.parameters()).device)
        return model.soft_tokens(batch.media)[modality].values

    def decoded(self, files: Sequence[MediaFile]) -> tuple[MediaSpan, ...]:
        """The files as the model's input."""
        for file in files:
            if file.modality not in self.modalities:
                raise unknown_name("modality", file.modality, self.modalities, self.loaded.manifest.name)
        return decode(files, self._sources)

    def _question(self, files: Sequence[MediaFile], question: str | None) -> str | None:
        if question is not None and not self.converses:
            raise ModalignError(f"run {self.loaded.manifest.name} says captions and takes no question: leave it out")
        if not files and question is None:
            raise ModalignError("nothing to ask about: give a file, or a question in words")
        if question is None and self.converses:
            return self.loaded.settings.modalities[files[0].modality].prompts[0]
        return question


def open_run(folder: str | Path, settings: Settings | None = None) -> AskableRun:
    """The finished run in `folder`, on the device that its settings choose; errors as `load_run` raises them."""
    return AskableRun(load_run(Path(folder), settings))


def decode(files: Sequence[MediaFile], sources: SourceBook) -> tuple[MediaSpan, ...]:
    """Files by their modalities' decoders; ModalignError names the one that does not decode, or is of no variant."""
    spans = []
    for file in files:
        sizes = sources.sizes(file.modality)
        check_variant(sizes, file.variant, file.name, "variant='{}'")
        content = file.read()
        try:
            decoder = sources.decoder(file.modality)
            value = decoder(content, None)
            check_length(sizes, value, file.variant)
        except ValueError as error:
            raise ModalignError(f"{file.name}: the file does not decode as {file.modality}: {error}") from None
        spans.append(decoded_span(file.modality, decoder, value, file.variant))
    return tuple(spans)
