"""Samples to a batch: media stacked by modality, all text in one row, and each sample's layout of segments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from modalign.errors import BadSample, ModalignError
from modalign.types import Batch, MediaBatch, MediaSpan, Sample, Segment, TextSpan


@dataclass(slots=True)
class _Row:
    """What has been gathered so far: the text of all samples, and the media by modality."""

    ids: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    media: dict[str, list[tuple[str, MediaSpan]]] = field(default_factory=dict)


class Collator:
    """Tokenizes each span by itself and lays samples out; picklable where `tokenizer_encode` is.

    `tokenizer_encode` gives token ids without special ones. With `bos_id`, every sample begins with a segment of that
    one token, which carries no loss. At most `max_text_tokens` of a sample are kept; how many were cut off is counted
    in its meta as `truncated`. A sample that is left without a supervised token raises ModalignError, which names it,
    unless `require_targets` is False (inference); `checked` finds those that are only too long beforehand.
    """

    def __init__(
        self,
        tokenizer_encode: Callable[[str], list[int]],
        bos_id: int | None,
        eos_id: int | None,
        max_text_tokens: int = 512,
        require_targets: bool = True,
    ) -> None:
        if max_text_tokens < 1:
            raise ModalignError(f"max_text_tokens must be at least 1, not {max_text_tokens}")
        self.encode, self.bos_id, self.eos_id = tokenizer_encode, bos_id, eos_id
        self.max_text_tokens, self.require_targets = max_text_tokens, require_targets

    def __call__(
        self, samples: Sequence[Sample], source: str = "", holes: Sequence[tuple[str, str, str]] = ()
    ) -> Batch:
        """The batch of `samples` in order; with none (all were holes) it is empty but well formed."""
        row, layout, metas = _Row(), [], []
        for sample in samples:
            segments, truncated = self._lay_out(sample, row)
            layout.append(segments)
            metas.append(sample.meta | {"truncated": truncated})
        return Batch(
            media={modality: _stack(modality, spans) for modality, spans in row.media.items()},
            layout=tuple(layout),
            text_ids=torch.tensor(row.ids, dtype=torch.long),
            loss_weights=torch.tensor(row.weights, dtype=torch.float32),
            keys=tuple(sample.key for sample in samples),
            source=source,
            metas=tuple(metas),
            holes=tuple(holes),
            supervised=tuple(number for number, weight in enumerate(row.weights) if weight),
        )

    def checked(self, sample: Sample) -> Sample:
        """The sample; raises BadSample where `max_text_tokens` would cut off all that it is to learn."""
        room = self.max_text_tokens - (self.bos_id is not None)
        texts = [span for span in sample.spans if isinstance(span, TextSpan)]
        if not self.require_targets or not any(_teaches(span) for span in texts):
            return sample
        for span in texts:
            if room > 0 and _teaches(span):
                return sample
            room -= len(self._tokens(span))
        reason = (
            f"max_text_tokens={self.max_text_tokens} cut off all that it is to learn: raise it, or shorten its text"
        )
        raise BadSample(sample.key, reason)

    def _lay_out(self, sample: Sample, row: _Row) -> tuple[tuple[Segment, ...], int]:
        """The sample's segments, with its text and media added to the row, and the number of tokens cut off."""
        first, truncated = len(row.ids), 0
        segments: list[Segment] = []
        if self.bos_id is not None:
            segments.append(self._add_text(row, [self.bos_id], 0.0))
        for span in sample.spans:
            if isinstance(span, MediaSpan):
                media = row.media.setdefault(span.modality, [])
                segments.append(Segment(span.modality, len(media)))
                media.append((sample.key, span))
                continue
            ids = self._tokens(span)
            kept = ids[: max(0, self.max_text_tokens - (len(row.ids) - first))]
            truncated += len(ids) - len(kept)
            if kept:
                segments.append(self._add_text(row, kept, span.weight if span.target else 0.0))
        if self.require_targets and not any(row.weights[first:]):
            raise self._unsupervised(sample, truncated)
        return tuple(segments), truncated

    def _unsupervised(self, sample: Sample, truncated: int) -> ModalignError:
        reason = "its caption or answer is empty: mend or remove it"
        if any(isinstance(span, TextSpan) and _teaches(span) for span in sample.spans):
            reason = f"max_text_tokens={self.max_text_tokens} cut {truncated} tokens off: raise it"
        return ModalignError(f"sample {sample.key} of recipe {sample.recipe} has no supervised token: {reason}")

    def _tokens(self, span: TextSpan) -> list[int]:
        ids = list(self.encode(span.text)) if span.text else []
        return [*ids, self.eos_id] if span.end and self.eos_id is not None else ids

    @staticmethod
    def _add_text(row: _Row, ids: list[int], weight: float) -> Segment:
        segment = Segment(None, len(row.ids), len(ids))
        row.ids.extend(ids)
        row.weights.extend([weight] * len(ids))
        return segment


def _teaches(span: TextSpan) -> bool:
    """Whether its tokens carry loss."""
    return span.target and bool(span.text) and bool(span.weight)


def _stack(modality: str, spans: list[tuple[str, MediaSpan]]) -> MediaBatch:
    values: list[Tensor] = [span.value for _, span in spans]
    variants = tuple(span.variant for _, span in spans)
    if all(value.ndim == 1 for value in values):
        width = max(len(value) for value in values)
        values = [torch.nn.functional.pad(value, (0, width - len(value))) for value in values]
    shape: Any = values[0].shape
    for (key, _), value in zip(spans, values, strict=True):
        if value.shape != shape:
            raise ModalignError(
                f"samples {spans[0][0]} and {key} of one batch have {modality} of shapes {tuple(shape)} and "
                f"{tuple(value.shape)}: set its decoder to one size"
            )
    first, names = spans[0][1], tuple(span.kept_as for _, span in spans)
    return MediaBatch(torch.stack(values), variants, first.reached, names if any(names) else (), first.standard)
