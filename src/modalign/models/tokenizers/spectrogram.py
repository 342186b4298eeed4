"""Tokens of sound: a convolution over a mel spectrogram."""

from __future__ import annotations

from collections.abc import Sequence

from modalign.models.tokenizers.maps import MapTokenizer


class SpectrogramTokenizer(MapTokenizer):
    """Conv2d over [1, num_mels, num_frames]; windows may overlap (kernel 16, stride 10 in OneLLM)."""

    def __init__(
        self, width: int, kernel: int | Sequence[int], stride: int | Sequence[int], num_mels: int, num_frames: int
    ) -> None:
        super().__init__(width, kernel, stride, 1, (num_mels, num_frames))
