"""Training samples of one modality with their captions, for start values that are fitted to them."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from modalign.data.templates import CaptionTemplate, caption_of
from modalign.errors import BadSample, ModalignError
from modalign.models.caption_start import Example
from modalign.stages.sources import SourceBook

log = logging.getLogger(__name__)

# Of larger recipes so many samples, evenly spread: a linear map needs no more.
MOST = 10_000


def captioned(sources: SourceBook, recipes: Sequence[str], modality: str) -> list[Example]:
    """The captioned training samples of those recipes that hold this modality alone, decoded and not augmented.

    Bad samples and those without a caption are left out, and counted in a warning; none left is an error.
    """
    found: list[Example] = []
    left_out: list[str] = []
    for name in recipes:
        if sources.book.media(name) != (modality,):
            continue
        source = sources.source(name, "train", CaptionTemplate())
        count = sources.book.num_samples(name, "train")  # those that data.train_samples leaves
        for index in range(0, count, max(1, -(-count // MOST))):
            try:
                key, (span,), record = source.media(index)
                found.append(Example(span.value, span.variant, _caption(key, record)))
            except BadSample as error:
                left_out.append(str(error))
    if left_out:
        log.warning("%s: %d samples are left out of its start from captions, %s", modality, len(left_out), left_out[0])
    if not found:
        raise ModalignError(
            f"modalities.{modality}.tokenizer.start=captions: no training sample of {', '.join(recipes)} is of "
            f"{modality} alone and has a caption: take `start` out"
        )
    return found


def _caption(key: str, record: dict[str, object]) -> str:
    try:
        return caption_of(record)
    except ValueError as error:
        raise BadSample(key, str(error)) from error
