"""Is the sensor used? The loss with the real input, with another sample's, and with a blank one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from modalign.evaluation.intervals import bootstrap
from modalign.evaluation.probes.findings import InputUse
from modalign.types import Batch, MediaBatch


def input_use(model: Any, batch: Batch, modality: str, real: Any = None, seed: int = 0) -> InputUse:
    """Losses of a batch of at least two media of `modality`; a model that ignores them has three equal ones.

    `real` is what the model said of the batch as it is, where it has been asked already.

    Blank is zero in the decoded, normalised values: a picture of the mean grey, silence, no motion.
    """
    media = batch.media[modality]
    real = model(batch) if real is None else real
    shuffled = model(with_media(batch, modality, exchanged(media, seed)))
    blank = model(with_media(batch, modality, MediaBatch(torch.zeros_like(media.values), media.variants)))
    weights = _numbers(real.per_sample_weight)
    losses = [_numbers(output.per_sample_sum) for output in (real, shuffled, blank)]
    means = [float(loss.sum() / weights.sum()) for loss in losses]
    lost = losses[1] - losses[0]
    sums = np.stack([lost, weights], axis=1)
    low, high = bootstrap(sums, lambda drawn: drawn[:, 0] / np.maximum(drawn[:, 1], 1e-8))
    return InputUse(means[0], means[1], means[2], means[1] - means[0], low, high)


def exchanged(media: MediaBatch, seed: int = 0) -> MediaBatch:
    """The same media in another order in which none has its own place, each with its variant."""
    count = len(media.values)
    order = np.random.default_rng(seed).permutation(count)
    partner = np.empty(count, dtype=np.int64)
    partner[order] = np.roll(order, 1)
    variants = tuple(media.variants[i] for i in partner) if media.variants else ()
    return MediaBatch(media.values[torch.from_numpy(partner).to(media.values.device)], variants)


def with_media(batch: Batch, modality: str, media: MediaBatch) -> Batch:
    """The batch with other media of one modality."""
    return replace(batch, media={**batch.media, modality: media})


def _numbers(values: Tensor) -> np.ndarray:
    return values.double().cpu().numpy()
