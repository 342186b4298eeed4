"""Does what lies in shards decode? A check of one raw sample, and a look at some of a recipe's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from modalign.cli.terminal import count, say
from modalign.config.recipes import RecipeBook
from modalign.config.schema import Settings
from modalign.data.recipes import Recipe
from modalign.data.verify import Check
from modalign.errors import BadSample, ModalignError

SOME = 32  # of a split, spread evenly


def decoding_check(settings: Settings, recipe: Recipe) -> Check:
    """A check that decodes a raw sample's media and reads its words; ValueError or BadSample where it cannot."""
    from modalign.data.dataset import Source
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
    decoders = {modality: book.decoder(modality) for modality in recipe.media}
    lengths = book.lengths(recipe)
    source = Source(recipe, reader, decoders, CaptionTemplate(), lambda position: (0, 0), lengths=lengths)

    def check(sample: RawSample) -> None:
        reader.sample = sample
        source.media(0)

    return check


def decode_some(settings: Settings, recipe: Recipe, splits: Iterable[Path]) -> None:
    """Decode some samples of each split and say what does not; ModalignError where none of them does.

    A recipe with a medium that the settings have no modality for is left alone.
    """
    from modalign.data.reader import ShardReader

    if not set(recipe.media) <= set(settings.modalities):
        return
    check = decoding_check(settings, recipe)
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
    if not bad:
        say(f"{count(tried)} of them, spread over all, decode")
        return
    told = f"{count(len(bad))} of {count(tried)} samples that were tried do not decode, the first: {bad[0]}"
    if len(bad) == tried:
        raise ModalignError(f"recipe {recipe.name}: {told}; is the recipe's medium or extension the right one?")
    say(f"{told}; `modalign verify {recipe.name} --decode` names all: training counts and leaves them out")
