"""Tokens of signals over time: a Conv1d over the channels of a series."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from modalign.errors import ModalignError
from modalign.models.tokenizers.maps import count_steps, with_frames


class SeriesTokenizer(nn.Module):
    """Conv1d over [num_channels, num_steps]; tokens in order of time.

    One convolution is OneLLM's tokenizer. `stem` puts others before it, each [channels, kernel, stride] and a GELU:
    rhythm and energy are no linear function of a signal.
    """

    def __init__(
        self,
        width: int,
        num_channels: int,
        num_steps: int,
        kernel: int,
        stride: int,
        bias: bool = False,
        stem: Sequence[Sequence[int]] = (),
    ) -> None:
        super().__init__()
        self.width = width
        self.shape = (num_channels, num_steps)
        layers: list[nn.Module] = []
        for channels, stem_kernel, stem_stride in stem:
            num_steps = count_steps(num_steps, stem_kernel, stem_stride, "SeriesTokenizer stem")
            layers += [nn.Conv1d(num_channels, channels, stem_kernel, stem_stride), nn.GELU()]
            num_channels = channels
        self.stem = nn.Sequential(*layers)
        self.num_tokens = count_steps(num_steps, kernel, stride, "SeriesTokenizer")
        self.conv = nn.Conv1d(num_channels, width, kernel, stride, bias=bias)

    def forward(
        self, values: Float[Tensor, "N ..."], variants: tuple[str | None, ...] = ()
    ) -> Float[Tensor, "N T L D"]:
        """Series [N, C, S] or windows of them [N, T, C, S] to tokens."""
        frames = with_frames(values, 2, "SeriesTokenizer")
        if tuple(frames.shape[2:]) != self.shape:
            raise ModalignError(
                f"SeriesTokenizer was built for {self.shape} (channels, steps), "
                f"but {tuple(frames.shape[2:])} came; make decoder and tokenizer agree"
            )
        return self.conv(self.stem(frames.flatten(0, 1))).transpose(1, 2).unflatten(0, frames.shape[:2])
