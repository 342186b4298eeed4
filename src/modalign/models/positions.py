"""Position embeddings of one modality: where a token lies, and which frame it came from."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from modalign.errors import ModalignError


class Positions(nn.Module):
    """A learned table of `num_tokens` + 1 rows (the class token first), or none: then the encoder's own are used.

    Averaging tokens over frames forgets the frames' order; `num_frames` > 0 marks each frame before the encoder: by an
    embedding that is added, and with `frame_gain` by a gain that grows from 1 - frame_gain at the first frame to
    1 + frame_gain at the last, so that what moves leaves a trail that shows its direction. Both are learned further.
    """

    def __init__(
        self,
        num_tokens: int,
        width: int,
        learned: bool,
        num_frames: int = 0,
        std: float = 0.02,
        frame_gain: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_tokens = num_tokens
        self.tokens = nn.Parameter(torch.randn(num_tokens + 1, width) * std) if learned else None
        self.frames = nn.Parameter(torch.randn(num_frames, width) * std) if num_frames else None
        ramp = torch.linspace(1 - frame_gain, 1 + frame_gain, num_frames)[:, None].repeat(1, width)
        self.gains = nn.Parameter(ramp) if num_frames and frame_gain else None

    def table(self) -> Float[Tensor, "L1 D"] | None:
        """The table [num_tokens + 1, D], or None where the encoder's own is to be used."""
        return self.tokens

    def mark_frames(self, tokens: Float[Tensor, "N T L D"]) -> Float[Tensor, "N T L D"]:
        """The tokens times their frame's gain, with its embedding added, where there are any."""
        if self.frames is None:
            return tokens
        count = tokens.shape[1]
        if count > len(self.frames):
            raise ModalignError(f"{count} frames came, but positions hold {len(self.frames)}; raise num_frames")
        if self.gains is not None:
            tokens = tokens * self.gains[:count, None]
        return tokens + self.frames[:count, None]
