"""Can the language model say these words? Its own loss on a recipe's captions, beside text that it knows."""

from __future__ import annotations

import logging
from typing import Any

from modalign.data.collate import Collator
from modalign.data.templates import TextTemplate
from modalign.errors import BadSample
from modalign.evaluation.evaluate import text_loss
from modalign.models.parts import ADAPTERS, part_of
from modalign.stages.sources import SourceBook
from modalign.types import Sample

log = logging.getLogger(__name__)

_LANGUAGE_MODEL = ("llm", ADAPTERS)
NUM_CAPTIONS = 64
FACTOR, OFFSET = 1.5, 1.5  # nats: a caption's first words are always a surprise, a foreign vocabulary is far more


def warn_where_unspeakable(model: Any, sources: SourceBook, recipes: tuple[str, ...]) -> dict[str, Any]:
    """Loss of each recipe's captions as plain text, nats per token; warns where it is far above the known text's.

    For the manifest: `caption_loss` by recipe, and `unspeakable`, those warned of with their loss and the known text's.
    Nothing is warned of where the language model trains: it learns the words.
    """
    known_name = sources.settings.data.text_loss
    if known_name is None or not sources.present(known_name):
        return {}
    known = caption_loss(model, sources, known_name, "test")
    losses = {name: caption_loss(model, sources, name, "train") for name in recipes if sources.book.media(name)}
    learns = any(weight.requires_grad for name, weight in model.named_parameters() if part_of(name) in _LANGUAGE_MODEL)
    far = {} if learns else {name: loss for name, loss in losses.items() if loss > FACTOR * known + OFFSET}
    foreign = [(name, loss, known) for name, loss in far.items()]
    for warned in foreign:
        log.warning(
            "recipe %s: the language model's own loss on its captions is %.2f nats a token, against %.2f on text "
            "that it knows: it may not be able to say those words (train it on such text, or reword the captions)",
            *warned,
        )
    return {"caption_loss": losses} | ({"unspeakable": [list(each) for each in foreign]} if foreign else {})


def caption_loss(model: Any, sources: SourceBook, name: str, split: str) -> float:
    """Mean loss of the first captions (or texts) of a split, without their media."""
    source = sources.source(name, split, TextTemplate())
    samples = []
    for index in range(min(NUM_CAPTIONS, len(source))):
        try:
            record = source.record(source.reader.read(index))
            spans = source.template.spans((), record, (), None)
        except (BadSample, ValueError):
            continue
        samples.append(Sample(str(index), name, spans))
    tokenizer = model.text_tokenizer
    collate = Collator(tokenizer.encode, tokenizer.bos_id, tokenizer.eos_id)
    return text_loss(model, [collate(samples)]).value if samples else 0.0
