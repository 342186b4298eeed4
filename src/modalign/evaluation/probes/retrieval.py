"""Retrieval of captions from soft tokens: does an input find its own caption among those of others?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from modalign.evaluation.probes.findings import Retrieval
from modalign.types import Batch, MediaBatch, Segment

# What is nearer than this many nats is a tie: the same sum in another order differs by less.
TIE = 1e-3
ROWS = 64  # rows of the language model at a time


def retrieval(model: Any, batch: Batch, modality: str, candidates: int) -> Retrieval | None:
    """Rank the first distinct captions for each of their inputs; None where there are fewer than two.

    A caption's score for an input is its log-likelihood less its mean over all inputs, so that a caption that is likely
    whatever is sensed does not win. Ties count as often as chance would break them well.
    """
    rows = distinct(batch, modality)[:candidates]
    if len(rows) < 2:
        return None
    scores = _log_likelihoods(model, batch, modality, rows)
    scores = scores - scores.mean(dim=0)
    own = scores.diagonal().unsqueeze(1)
    above = (scores > own + TIE).sum(dim=1)
    tied = ((scores - own).abs() <= TIE).sum(dim=1)
    found = [float(((k - above) / tied).clamp(0, 1).mean()) for k in (1, 5)]
    chance = [min(1.0, k / len(rows)) for k in (1, 5)]
    return Retrieval(found[0], found[1], chance[0], chance[1], len(rows))


def distinct(batch: Batch, modality: str) -> list[int]:
    """The samples with one medium of `modality` whose supervised words no earlier sample has."""
    ids, weights = batch.text_ids.tolist(), batch.loss_weights.tolist()
    found: dict[tuple[int, ...], int] = {}
    for number, layout in enumerate(batch.layout):
        if sum(segment.modality == modality for segment in layout) == 1:
            places = [p for s in layout if s.modality is None for p in range(s.start, s.start + s.length)]
            found.setdefault(tuple(ids[p] for p in places if weights[p]), number)
    return list(found.values())


def _log_likelihoods(model: Any, batch: Batch, modality: str, rows: Sequence[int]) -> Tensor:
    """The log-likelihood [input, caption] of the words of each sample in `rows` given the medium of each."""
    per_call = max(1, ROWS // len(rows))
    found = []
    for first in range(0, len(rows), per_call):
        part = rows[first : first + per_call]
        output = model(_every_pair(batch, modality, part, rows))
        found.append(-output.per_sample_sum.double().view(len(part), len(rows)))
    return torch.cat(found).cpu()


def _every_pair(batch: Batch, modality: str, inputs: Sequence[int], captions: Sequence[int]) -> Batch:
    """Each of the inputs with each of the captions; a medium is encoded once, however many samples read it."""
    media = batch.media[modality]
    places = [next(s.start for s in batch.layout[i] if s.modality == modality) for i in inputs]
    variants = tuple(media.variants[p] for p in places) if media.variants else ()
    index = torch.tensor(places, device=media.values.device)
    layout = tuple(
        tuple(Segment(modality, number, s.length) if s.modality == modality else s for s in batch.layout[caption])
        for number in range(len(inputs))
        for caption in captions
    )
    keys = tuple(f"{batch.keys[i]}|{batch.keys[c]}" for i in inputs for c in captions)
    taken = MediaBatch(media.values.index_select(0, index), variants)
    return replace(batch, media={**batch.media, modality: taken}, layout=layout, keys=keys, metas=(), holes=())
