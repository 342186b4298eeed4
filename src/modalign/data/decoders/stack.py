"""Several members of a sample as frames of one medium, such as a photograph and its depth map (the released OneLLM)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from numpy.random import Generator, default_rng
from torch import Tensor

from modalign.data.decoding import standardised
from modalign.errors import ModalignError
from modalign.targets import KEY, locate


class StackDecoder:
    """Members of a recipe's "jpg+png" as [len(decoders), ...]; all draw the same random numbers, so crop alike.

    `decoders` are decoders, or what a YAML says of them: a `_target_` and its settings.
    """

    def __init__(self, decoders: Sequence[Callable[[Any, Generator | None], Tensor] | Mapping[str, Any]]) -> None:
        if not decoders:
            raise ModalignError("StackDecoder: decoders must name one at least")
        self.decoders = [_built(declared) if isinstance(declared, Mapping) else declared for declared in decoders]

    @property
    def shape(self) -> tuple[int, ...] | None:
        """What every sample becomes, where the first decoder says so."""
        frame = getattr(self.decoders[0], "shape", None)
        return None if frame is None else (len(self.decoders), *frame)

    def __call__(self, members: tuple[bytes, ...], rng: Generator | None = None) -> Tensor:
        """Decode; raises ValueError where the number of members or the shapes differ."""
        if not isinstance(members, tuple) or len(members) != len(self.decoders):
            given = len(members) if isinstance(members, tuple) else 1
            raise ValueError(f"{given} members for {len(self.decoders)} decoders: name them in the recipe as jpg+png")
        seed = None if rng is None else int(rng.integers(2**63))
        frames = [
            standardised(decoder, decoder(member, None if seed is None else default_rng(seed)))
            for decoder, member in zip(self.decoders, members, strict=True)
        ]
        if len({frame.shape for frame in frames}) > 1:
            raise ValueError(f"frames of different shapes: {', '.join(str(tuple(frame.shape)) for frame in frames)}")
        return torch.stack(frames)


def _built(declared: Mapping[str, Any]) -> Callable[[Any, Generator | None], Tensor]:
    settings = dict(declared)
    target = str(settings.pop(KEY, ""))
    try:
        return locate(target, "StackDecoder: decoders")(**settings)
    except TypeError as error:
        raise ModalignError(f"StackDecoder: {target}: {str(error).partition('__init__() ')[2]}") from error
