"""Row: answers generated in a batch with a cache of keys and values, against one by one."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from modalign.bench.setting import Result, Setting
from modalign.bench.steps import per_second
from modalign.bench.subject import Subject
from modalign.bench.timing import Contender, paired, spread
from modalign.errors import ModalignError
from modalign.types import Batch, MediaBatch, Segment


def measure(setting: Setting, name: str) -> Result:
    """Both ways through the model's own generation; the tokens must be equal."""
    subject, size = setting.frame, setting.size
    batch = subject.captions(2, size.answers)
    alone = [single(batch, row) for row in range(size.answers)]
    words = size.answer_tokens
    together, apart = generated(subject, batch, words), [ids for b in alone for ids in generated(subject, b, words)]
    if together != apart:
        row = next(i for i, (a, b) in enumerate(zip(together, apart, strict=True)) if a != b)
        raise ModalignError(f"bench {name}: answer {row} differs in a batch and alone: {together[row]}, {apart[row]}")
    seconds = setting.time(
        {
            "ours": Contender(lambda: _all(subject, [batch], words)),
            "peer": Contender(lambda: _all(subject, alone, words)),
            "ours again": Contender(lambda: _all(subject, [batch], words)),
        }
    )
    return Result(
        paired(seconds["peer"], seconds["ours"]), per_second(size.answers, seconds["ours"]),
        per_second(size.answers, seconds["peer"]), f"{size.answers} answers of {words} tokens, all equal",
        1.0, spread(seconds["ours"], seconds["ours again"]), seconds,
    )  # fmt: skip


def _all(subject: Subject, batches: list[Batch], words: int) -> None:
    for batch in batches:
        generated(subject, batch, words)


@torch.no_grad()
def generated(subject: Subject, batch: Batch, words: int) -> list[list[int]]:
    """The next token ids of each sample, greedily, no token ending an answer."""
    model = subject.model
    composed = model.compose(batch, padding="left")
    with model.fusion.reading(composed.cross):
        return model.llm.generate(composed.embeddings, composed.attention_mask, words, min_new_tokens=words)


def single(batch: Batch, row: int) -> Batch:
    """One sample of a batch as a batch."""
    layout: list[Segment] = []
    ids: list[Tensor] = []
    media = {}
    for segment in batch.layout[row]:
        if segment.modality is None:
            layout.append(Segment(None, sum(map(len, ids)), segment.length))
            ids.append(batch.text_ids[segment.start : segment.start + segment.length])
        else:
            media[segment.modality] = MediaBatch(
                batch.media[segment.modality].values[segment.start : segment.start + 1]
            )
            layout.append(Segment(segment.modality, 0))
    text = torch.cat(ids)
    weights = torch.ones(len(text), device=text.device)
    return replace(
        batch,
        media=media,
        layout=(tuple(layout),),
        text_ids=text,
        loss_weights=weights,
        supervised=None,
        keys=(batch.keys[row],),
        metas=(),
    )
