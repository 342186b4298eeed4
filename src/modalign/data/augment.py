"""Random changes of decoded training samples, declared in a modality's YAML: against learning small sets by heart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from numpy.random import Generator
from torch import Tensor

from modalign.data.decoding import standardised
from modalign.errors import ModalignError

Augmentation = Callable[[Tensor, Generator], Tensor]


class Noise:
    """Gaussian noise on every value, in units of the decoded tensor; on a linear map it acts as ridge regression does.

    Source: Bishop, "Training with noise is equivalent to Tikhonov regularization" (1995).
    """

    def __init__(self, std: float) -> None:
        if not std > 0:
            raise ModalignError(f"augment Noise: std must be above zero, not {std!r}")
        self.std = std

    def __call__(self, values: Tensor, rng: Generator) -> Tensor:
        """Values of any shape; raises nothing."""
        noise = torch.from_numpy(rng.standard_normal(values.shape, dtype="float32"))
        return values + self.std * noise.to(values.dtype)


class Roll:
    """A circular shift along the last axis (time) by up to `max_steps` either way."""

    def __init__(self, max_steps: int) -> None:
        if isinstance(max_steps, bool) or not isinstance(max_steps, int) or max_steps < 1:
            raise ModalignError(f"augment Roll: max_steps must be a whole number of at least 1, not {max_steps!r}")
        self.max_steps = max_steps

    def __call__(self, values: Tensor, rng: Generator) -> Tensor:
        """Values [..., steps]."""
        return values.roll(int(rng.integers(-self.max_steps, self.max_steps + 1)), dims=-1)


class Drop:
    """Sets a share of the values to zero (voxels or pixels that are missing)."""

    def __init__(self, share: float) -> None:
        if not 0 < share < 1:
            raise ModalignError(f"augment Drop: share must lie between 0 and 1, not {share!r}")
        self.share = share

    def __call__(self, values: Tensor, rng: Generator) -> Tensor:
        """Values of any shape."""
        return values * torch.from_numpy(rng.random(values.shape) >= self.share)


class Augmented:
    """A decoder followed by augmentations where a generator is given (training), and by nothing where none is."""

    def __init__(self, decoder: Callable[..., Tensor], augmentations: Sequence[Augmentation]) -> None:
        self.decoder, self.augmentations = decoder, tuple(augmentations)

    def __call__(self, data: Any, rng: Generator | None = None) -> Tensor:
        """Decode, then change what is standardised."""
        values = standardised(self.decoder, self.decoder(data, rng))
        if rng is not None:
            for augmentation in self.augmentations:
                values = augmentation(values, rng)
        return values
