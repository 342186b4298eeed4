"""Measure a model by what it says: captions, answers, questions over two sensors, and plain text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from modalign.evaluation.attributes import attribute_accuracy
from modalign.evaluation.items import Item, items_digest
from modalign.evaluation.metrics import caption_scores, exact_match
from modalign.evaluation.scores import Score, TextLoss
from modalign.types import SOFT_TOKENS, Batch, MediaBatch, Sample, Span

Collate = Callable[[Sequence[Sample]], Batch]
Prompt = Callable[[Item, str | None], tuple[Span, ...]]
Features = Callable[[Sequence[Item], Mapping[str, MediaBatch]], dict[str, MediaBatch]]
"""The media of items as features, which may be known from an earlier call."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One question put to the model: the item, the words asked (None: a bare caption), and what it said."""

    item: Item
    question: str | None
    references: tuple[str, ...]
    generated: str


@dataclass(frozen=True, slots=True)
class Generator:
    """Generates texts in batches: `prompt` lays out an item and a question as spans.

    What the media of a call became in front of the language model is kept for the next one, so that a second question
    about the same items computes their soft tokens no more. The model must stay as it is meanwhile.
    """

    model: Any
    collate: Collate
    prompt: Prompt
    batch_size: int
    max_new_tokens: int
    stop: tuple[str, ...] = ()
    features: Features | None = None
    _kept: dict[tuple[int, ...], tuple[list[Item], dict[str, MediaBatch]]] = field(default_factory=dict, repr=False)

    @torch.no_grad()
    def __call__(self, asked: Sequence[tuple[Item, str | None]]) -> list[str]:
        """One text for each item and question, greedily; samples of equal prompt length share a batch's width."""
        training = self.model.training
        self.model.eval()
        texts: list[str] = []
        kept, earlier = {}, dict(self._kept)
        for start in range(0, len(asked), self.batch_size):
            part = asked[start : start + self.batch_size]
            samples = [Sample(item.key, "", self.prompt(item, question)) for item, question in part]
            batch = self.collate(samples).to(next(self.model.parameters()).device)
            items = [item for item, _ in part]
            name = tuple(map(id, items))
            _, media = earlier.get(name) or ([], self._soft_tokens(items, batch))
            if media is not None:
                batch, kept[name] = replace(batch, media=media), (items, media)
            texts.extend(self.model.generate(batch, max_new_tokens=self.max_new_tokens, stop=self.stop))
        self.model.train(training)
        self._kept.clear()
        self._kept.update(kept)
        return [text.strip() for text in texts]

    def _soft_tokens(self, items: Sequence[Item], batch: Batch) -> dict[str, MediaBatch] | None:
        """A batch's media as soft tokens; None where some of them are padding."""
        media = batch.media if self.features is None else self.features(items, batch.media)
        tokens = self.model.soft_tokens(media)
        if any(found.mask is not None or found.positions is not None for found in tokens.values()):
            return None
        return {modality: MediaBatch(found.values, reached=SOFT_TOKENS) for modality, found in tokens.items()}


def score_captions(
    generate: Generator,
    items: Sequence[Item],
    question: str | None,
    modality: str,
    split: str,
    kinds: Mapping[str, Any],
) -> tuple[list[Score], list[Asked]]:
    """Captions of the items: attribute accuracy where items have attributes, CIDEr, BLEU-4, ROUGE-L."""
    texts = generate([(item, question) for item in items])
    asked = [Asked(item, question, item.references, text) for item, text in zip(items, texts, strict=True)]
    scores = []
    if any(item.attributes for item in items):
        scores.append(attribute_accuracy(texts, [item.attributes for item in items], kinds, modality, split))
    scores.extend(caption_scores(texts, [list(item.references) for item in items], modality, split))
    digest = items_digest(items)
    return [replace(score, items=digest) for score in scores], asked


def score_answers(
    generate: Generator, items: Sequence[Item], modality: str, split: str, task: str = "answer"
) -> tuple[list[Score], list[Asked]]:
    """Exact match of the answers to each item's first question."""
    usable = [item for item in items if item.questions]
    if not usable:
        return [], []
    texts = generate([(item, item.questions[0][0]) for item in usable])
    asked = [
        Asked(item, item.questions[0][0], (item.questions[0][1],), text)
        for item, text in zip(usable, texts, strict=True)
    ]
    score = exact_match(texts, [item.questions[0][1] for item in usable], modality, split, task)
    return [replace(score, items=items_digest(usable))], asked


@torch.no_grad()
def text_loss(model: Any, batches: Iterable[Batch]) -> TextLoss:
    """Mean next-token loss of the language model on plain text, in nats."""
    training = model.training
    model.eval()
    total = count = 0.0
    for batch in batches:
        output = model.loss(batch.to(next(model.parameters()).device))
        total, count = total + float(output.loss_sum), count + float(output.weight_sum)
    model.train(training)
    return TextLoss(total / max(count, 1e-8), int(count))
