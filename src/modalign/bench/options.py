"""Rows: what an option of the model gains over what it is without, both ours, on the same weights."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from torch import Tensor

from modalign.bench.setting import Result, Setting
from modalign.bench.steps import compare, ours
from modalign.bench.subject import ALIGN, PADDED, attending
from modalign.models.packed_attention import PACKED


def measure(setting: Setting, name: str) -> Result:
    """Seconds of rows of like length together, over those of all samples in one row."""
    subject = setting.half if setting.on_gpu else setting.step
    batch = subject.captions(0)

    def loss(attention: str) -> Tensor:
        with attending(subject.model, attention):
            return step.loss()

    step = ours(subject, ALIGN, batch, setting.on_gpu, setting.size.optimizer)
    packed, padded = (replace(step, loss=partial(loss, kind)) for kind in (PACKED, PADDED))
    return compare(setting, name, packed, padded, batch.num_samples)
