"""Lays out a batch as one padded sequence of embeddings with its labels: what every fusion has in common.

Letters: B samples, T positions, D width, S text tokens of the batch, M media tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from modalign.errors import ModalignError, unknown_name
from modalign.models.packing import Packing
from modalign.models.transfer import sent
from modalign.types import Batch, TokenSet

IGNORED = -100


@dataclass(slots=True)
class CrossSource:
    """Media tokens beside the sequence, and which of them each position may read.

    With `packing` the positions come as one row without padding.
    """

    values: Float[Tensor, "B M D"]
    visible: Bool[Tensor, "B T M"]
    packing: Packing | None = None


@dataclass(slots=True)
class Composed:
    """What enters the language model. `labels[b, t]` is the token that position t has to predict (-100: none).

    `lengths` and `places`, each sample's length and its positions that have a label, are the host's: nobody has to wait
    for a device to learn them.
    """

    embeddings: Float[Tensor, "B T D"]
    attention_mask: Int[Tensor, "B T"]
    position_ids: Int[Tensor, "B T"]
    labels: Int[Tensor, "B T"]
    weights: Float[Tensor, "B T"]
    lengths: list[int]
    places: list[list[int]]
    padding: str = "right"
    cross: CrossSource | None = None


@dataclass(slots=True)
class Rows:
    """For each sample the rows it takes, in order: text tokens 0..S-1, then media tokens from S on."""

    rows: list[list[int]]
    num_text: int


def media_rows(token_sets: Mapping[str, TokenSet], first: int) -> dict[str, list[list[int]]]:
    """The row numbers of every medium's valid tokens when all media lie one behind the other from row `first` on."""
    table: dict[str, list[list[int]]] = {}
    for name, tokens in token_sets.items():
        count, length = tokens.values.shape[:2]
        if tokens.mask is None:
            table[name] = [list(range(first + i * length, first + (i + 1) * length)) for i in range(count)]
        else:
            valid = tokens.mask.tolist()
            table[name] = [[first + i * length + j for j in range(length) if valid[i][j]] for i in range(count)]
        first += count * length
    return table


def rows_of(batch: Batch, table: Mapping[str, list[list[int]]]) -> list[list[int]]:
    """Each sample's rows in the order of its layout; media that `table` does not hold are an error."""
    all_rows = []
    for key, layout in zip(batch.keys, batch.layout, strict=True):
        rows: list[int] = []
        for segment in layout:
            if segment.modality is None:
                rows.extend(range(segment.start, segment.start + segment.length))
            elif segment.modality in table:
                rows.extend(table[segment.modality][segment.start])
            else:
                raise unknown_name("modality", segment.modality, table, f"the layout of sample {key}")
        if not rows:
            raise ModalignError(f"sample {key} is empty: neither text nor media")
        all_rows.append(rows)
    return all_rows


def lay_out(
    batch: Batch, rows: list[list[int]], text: Float[Tensor, "S D"], media: list[Tensor], padding: str
) -> Composed:
    """Gathers the rows into a padded sequence; the embeddings of padding are zero."""
    if padding not in ("right", "left"):
        raise unknown_name("padding", padding, ("right", "left"))
    device, num_text = text.device, text.shape[0]
    flat = torch.cat([text, *(m.flatten(0, -2).to(text.dtype) for m in media), text.new_zeros(1, text.shape[-1])])
    empty = flat.shape[0] - 1
    longest = max(len(r) for r in rows)
    pads = [[empty] * (longest - len(r)) for r in rows]
    padded = [r + p if padding == "right" else p + r for r, p in zip(rows, pads, strict=True)]
    index = sent(padded, device)
    mask = (index != empty).long()
    positions = torch.arange(longest, device=device).expand(len(rows), -1)
    if padding == "left":
        positions = (mask.cumsum(dim=1) - 1).clamp_min(0)
    labels, weights = _shifted_labels(batch, index, num_text)
    embeddings = flat.index_select(0, index.flatten()).view(*index.shape, -1)
    lengths = [len(row) for row in rows]
    return Composed(embeddings, mask, positions, labels, weights, lengths, _places(batch, padded, num_text), padding)


def _places(batch: Batch, padded: list[list[int]], num_text: int) -> list[list[int]]:
    """Each sample's positions after which a supervised token comes."""
    known = batch.supervised
    if known is None:
        known = tuple(batch.loss_weights.nonzero()[:, 0].tolist())
    carries = [False] * (num_text + 1)
    for number in known:
        carries[number] = True
    return [[t - 1 for t, row in enumerate(rows) if t and row < num_text and carries[row]] for rows in padded]


def _shifted_labels(batch: Batch, index: Tensor, num_text: int) -> tuple[Tensor, Tensor]:
    """Position t predicts what lies at t + 1, where that is text with a weight."""
    following = torch.cat([index[:, 1:], torch.full_like(index[:, :1], num_text)], dim=1).clamp_max(num_text)
    none = batch.text_ids.new_full((1,), IGNORED)
    labels = torch.cat([batch.text_ids, none])[following]
    weights = torch.cat([batch.loss_weights, batch.loss_weights.new_zeros(1)])[following]
    return labels.masked_fill(weights == 0, IGNORED), weights
