"""The embedded encoder's own training: captions against images, and single attribute words against images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from modalign.models.contrast import ContrastiveModel
from modalign.runs.ranks import ALONE, Ranks
from modalign.stages.base import StageModule
from modalign.stages.objective import TermOutput
from modalign.types import Batch


@dataclass(frozen=True, slots=True)
class Contrast:
    """InfoNCE between images and captions (Radford et al. 2021), mixed with a contrast of single attribute words.

    Whole captions alone leave shapes half learned; each image against the words of one attribute at a time mends that.
    Every rank compares all samples of the slice, its own and the others': the world size changes nothing.
    """

    attribute_weight: float = 0.5
    name: str = "contrast"
    weight: float = 1.0
    ranks_of: Callable[[], Ranks] = lambda: ALONE

    def __call__(self, model: ContrastiveModel, batch: Batch) -> TermOutput:
        """This rank's share of the slice's mean loss times its number of images, and of that number."""
        ranks = self.ranks_of()
        ids = caption_ids(batch)
        images = ranks.rows(model.embed_images(batch.media)[: batch.num_samples])
        texts = ranks.rows(model.embed_texts(ids)[: batch.num_samples])
        everybody = ranks.gather((ids[: batch.num_samples], _attributes_of(batch)[: batch.num_samples]))
        captions = [row for rows, _ in everybody for row in rows]
        records = [record for _, several in everybody for record in several]
        count = images.new_tensor(float(len(captions)) / ranks.world_size)
        if not captions:
            return TermOutput((images.sum() + texts.sum()) * 0.0, count)
        loss = (1 - self.attribute_weight) * _captions(model, images, texts, captions)
        if self.attribute_weight:
            loss = loss + self.attribute_weight * _attributes(model, images, attribute_words(records))
        return TermOutput(loss * count, count)


def _captions(model: ContrastiveModel, images: Tensor, texts: Tensor, captions: Sequence[Sequence[int]]) -> Tensor:
    """Both directions; equal captions of a slice are all right answers."""
    logits = model.scale * images @ texts.T
    same = _equal(captions, images.device)
    target = same / same.sum(dim=1, keepdim=True)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target.T)) / 2


def _attributes(model: ContrastiveModel, images: Tensor, by_attribute: Mapping[str, Sequence[str]]) -> Tensor:
    """Mean over attributes of the cross entropy among the values that the slice holds; one text pass for all words."""
    vocabulary = sorted({value for values in by_attribute.values() for value in values})
    texts = model.embed_texts([model.text_tokenizer.encode(word) for word in vocabulary])
    losses = []
    for values in by_attribute.values():
        names = sorted(set(values))
        columns = texts[[vocabulary.index(name) for name in names]]
        target = torch.tensor([names.index(v) for v in values], device=images.device)
        losses.append(F.cross_entropy(model.scale * images @ columns.T, target))
    return torch.stack(losses).mean()


def caption_ids(batch: Batch) -> list[list[int]]:
    """Token ids of each sample's supervised text."""
    rows = []
    for segments in batch.layout:
        ids: list[int] = []
        for segment in segments:
            if segment.modality is None:
                span = slice(segment.start, segment.start + segment.length)
                if bool((batch.loss_weights[span] > 0).all()):
                    ids.extend(batch.text_ids[span].tolist())
        rows.append(ids)
    return rows


def attribute_words(records: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Each attribute that all samples of the slice have, with their values in order."""
    shared = set(records[0]).intersection(*(set(r) for r in records[1:])) if records else set()
    return {name: [str(r[name]) for r in records] for name in sorted(shared)}


def _attributes_of(batch: Batch) -> list[dict[str, Any]]:
    return [meta.get("attributes", {}) for meta in batch.metas]


def _equal(captions: Sequence[Sequence[int]], device: torch.device) -> Float[Tensor, "B B"]:
    rows = [tuple(row) for row in captions]
    unique = {row: number for number, row in enumerate(dict.fromkeys(rows))}
    labels: Int[Tensor, "B"] = torch.tensor([unique[row] for row in rows], device=device)
    return (labels[:, None] == labels[None, :]).float()


class PretrainContrastStage(StageModule):
    """Trains an encoder against texts; no language model runs."""

    def __init__(self, *args: Any, attribute_weight: float = 0.5, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.objective = (Contrast(attribute_weight, ranks_of=self._compared),)

    def _compared(self) -> Ranks:
        """Who compares: in training all ranks, each with its share; in validation each has the whole batch."""
        return self.ranks if self.model.training else ALONE

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:  # type: ignore[override]
        """As every stage's; the tower first takes what the alignment stages read from it."""
        assert isinstance(self.model, ContrastiveModel)
        self.model.settle()
        return super().state_dict()
