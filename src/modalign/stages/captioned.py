"""Training samples of one modality with their captions, for start values that are fitted to them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import islice

from numpy.random import default_rng

from modalign.data.dataset import Source
from modalign.data.templates import CaptionTemplate, caption_of
from modalign.errors import BadSample, ModalignError
from modalign.models.caption_start import Example
from modalign.stages.sources import SourceBook

log = logging.getLogger(__name__)

# Of larger recipes so many samples a variant, drawn at random: a linear map needs no more.
MOST = 4000


def captioned(sources: SourceBook, recipes: Sequence[str], modality: str) -> list[Example]:
    """The captioned training samples of those recipes that hold this modality alone, decoded and not augmented.

    Bad samples and those without a caption are left out, and counted in a warning; none left is an error.
    """
    found: list[Example] = []
    left_out: list[str] = []
    for source, index in _places(sources, recipes, modality):
        try:
            found.append(_example(source, index))
        except BadSample as error:
            left_out.append(str(error))
    if left_out:
        log.warning("%s: %d samples are left out of its start from captions, %s", modality, len(left_out), left_out[0])
    if not found:
        raise _nothing(recipes, modality, left_out[:1])
    return found


def expect_captions(sources: SourceBook, recipes: Sequence[str], modality: str, tries: int) -> None:
    """ModalignError where none of the first `tries` samples has a caption: found before anything trains."""
    left_out = []
    for source, index in islice(_places(sources, recipes, modality), tries):
        try:
            _example(source, index)
        except BadSample as error:
            left_out.append(str(error))
            continue
        return
    raise _nothing(recipes, modality, left_out[:1])


def _places(sources: SourceBook, recipes: Sequence[str], modality: str) -> Iterator[tuple[Source, int]]:
    most = MOST * max(1, len(sources.settings.modalities[modality].tokenizer.get("sizes", ())))
    for name in recipes:
        if sources.book.media(name) != (modality,):
            continue
        source = sources.source(name, "train", CaptionTemplate())
        count = sources.book.num_samples(name, "train")  # those that data.train_samples leaves
        indices: Sequence[int] = range(count)
        if count > most:
            indices = sorted(default_rng(sources.settings.seed).choice(count, most, replace=False).tolist())
        yield from ((source, index) for index in indices)


def _example(source: Source, index: int) -> Example:
    key, (span,), record = source.media(index)
    try:
        caption = caption_of(record)
    except ValueError as error:
        raise BadSample(key, str(error)) from error
    if not caption:
        raise BadSample(key, "its caption is empty")
    return Example(span.value, span.variant, caption)


def _nothing(recipes: Sequence[str], modality: str, reasons: Sequence[str]) -> ModalignError:
    why = f" (the first one: {reasons[0]})" if reasons else ""
    return ModalignError(
        f"modalities.{modality}.tokenizer.start=captions: no training sample of {', '.join(recipes)} is of "
        f"{modality} alone, can be read and has a caption{why}: mend them, or take `start` out"
    )
