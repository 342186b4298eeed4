"""A model that is no model: what a word costs beside each medium is written down, so that every answer is known."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from modalign.types import Batch, MediaBatch, Segment


class Priced(nn.Module):
    """A sample's only supervised word `w` beside a medium `v` costs `price(v, w)` nats; keeps what it was given."""

    def __init__(self, price):
        super().__init__()
        self.price = price
        self.media_seen = []

    def forward(self, batch):
        values = batch.media["smell"].values[:, 0]
        self.media_seen.append(len(values))
        costs = []
        for layout in batch.layout:
            medium, text = layout
            costs.append(float(self.price(float(values[medium.start]), int(batch.text_ids[text.start]))))
        losses = torch.tensor(costs)
        return SimpleNamespace(
            loss_sum=losses.sum(), weight_sum=torch.tensor(float(len(costs))),
            per_sample_sum=losses, per_sample_weight=torch.ones(len(costs)),
        )  # fmt: skip


def smells(*words, variants=()):
    """A batch in which medium and word of a sample are the same number."""
    count = len(words)
    layout = tuple((Segment("smell", i), Segment(None, i, 1)) for i in range(count))
    media = MediaBatch(torch.tensor(words, dtype=torch.float32).unsqueeze(1), variants)
    keys = tuple(f"s{i}" for i in range(count))
    return Batch({"smell": media}, layout, torch.tensor(words), torch.ones(count), keys)


@pytest.fixture
def priced():
    return Priced


@pytest.fixture
def batch():
    return smells
