"""Does what lies in shards decode? A check of one raw sample, and a look at some of a recipe's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from modalign.cli.terminal import count, say
from modalign.config.recipes import RecipeBook
from modalign.config.schema import Settings
from modalign.data.recipes import Recipe
from modalign.data.verify import Check
from modalign.errors import BadSample, ModalignError, nearest_name

SOME = 32  # of a split, spread evenly


class Changes:
    """Media that decode, but not as they are: cut, or padded with zeros, counted by modality."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], tuple[int, str]] = {}

    def add(self, modality: str, key: str, what: str, why: str) -> None:
        """Count one medium."""
        number, first = self._found.get((modality, what), (0, f"{key}: {why}"))
        self._found[modality, what] = (number + 1, first)

    def tell(self, of: str = "") -> None:
        """Print how many there are, each kind with the first of them."""
        for (modality, what), (number, first) in self._found.items():
            say(f"{modality}: {count(number)}{of} {what}, the first: {first} (see `mode` of its decoder)")


def decoding_check(settings: Settings, recipe: Recipe, changes: Changes) -> Check:
    """A check that decodes a raw sample's media and reads its words; ValueError or BadSample where it cannot.

    What decodes cut or padded is counted among `changes`.
    """
    from modalign.data.dataset import Decoder, Source
    from modalign.data.decoding import length_change
    from modalign.data.reader import RawSample
    from modalign.data.templates import CaptionTemplate
    from modalign.stages.sources import SourceBook

    class OneSample:
        """A reader of the sample at hand."""

        sample: RawSample

        def __len__(self) -> int:
            return 1

        def read(self, index: int, extensions: Sequence[str] | None = None) -> RawSample:
            return self.sample

    book, reader = SourceBook(settings, RecipeBook(settings)), OneSample()

    def watched(modality: str) -> Decoder:
        decoder = book.decoder(modality, f"recipe {recipe.name}: media")

        def decode(content: Any, rng: Any) -> Any:
            value = decoder(content, rng)
            if (change := length_change(decoder, content)) is not None:
                changes.add(modality, reader.sample.key, *change)
            return value

        return decode

    decoders = {modality: watched(modality) for modality in recipe.media}
    lengths = book.lengths(recipe)
    source = Source(recipe, reader, decoders, CaptionTemplate(), lambda position: (0, 0), lengths=lengths)

    def check(sample: RawSample) -> None:
        reader.sample = sample
        source.media(0)

    return check


def decode_some(settings: Settings, recipe: Recipe, splits: Iterable[Path]) -> None:
    """Decode some samples of each split and say what does not; ModalignError where none of them does.

    A recipe with a medium that the settings have no modality for is left alone, and that is told.
    """
    from modalign.data.reader import ShardReader

    if unknown := [modality for modality in recipe.media if modality not in settings.modalities]:
        nearest = nearest_name(unknown[0], settings.modalities)
        meant = f" (did you mean '{nearest}'?)" if nearest else ""
        say(f"recipe {recipe.name}: no modality '{unknown[0]}' yet{meant}: nothing was decoded")
        return
    changes = Changes()
    check = decoding_check(settings, recipe, changes)
    tried, bad = 0, list[str]()
    for split in splits:
        reader = ShardReader(split)
        size = len(reader)
        for place in sorted({number * size // SOME for number in range(SOME)}):
            tried += 1
            try:
                check(reader.read(place))
            except BadSample as error:
                bad.append(f"{split.name}: {error.key}: {error.reason}")
            except ValueError as error:
                bad.append(f"{split.name}: {reader.key(place)}: {error}")
        reader.close()
    changes.tell(f" of {count(tried)} that were tried")
    if not bad:
        say(f"{count(tried)} of them, spread over all, decode")
        return
    told = f"{count(len(bad))} of {count(tried)} samples that were tried do not decode, the first: {bad[0]}"
    if len(bad) == tried:
        raise ModalignError(f"recipe {recipe.name}: {told}; is the recipe's medium or extension the right one?")
    say(f"{told}; `modalign verify {recipe.name} --decode` names all: training counts and leaves them out")
