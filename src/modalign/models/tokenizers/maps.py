"""Tokens of 2-D maps by one convolution: spectrograms, gridded sensors, any picture that is no photograph.

Letters: N items, T frames, C channels, H W the map, L tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from modalign.errors import ModalignError


def as_pair(value: int | Sequence[int]) -> tuple[int, int]:
    """One number for both axes, or two numbers (height, width)."""
    if isinstance(value, int):
        return value, value
    height, width = value
    return int(height), int(width)


def count_steps(size: int, kernel: int, stride: int, what: str) -> int:
    """How often a window of `kernel` fits into `size` at `stride`."""
    if kernel < 1 or stride < 1 or size < kernel:
        raise ModalignError(
            f"{what}: a window of {kernel} at stride {stride} does not fit into {size}; change kernel, stride or size"
        )
    return (size - kernel) // stride + 1


def with_frames(values: Tensor, num_axes: int, what: str) -> Tensor:
    """Values [N, T, ...] of `num_axes` axes an item, whether or not they came with a frame axis."""
    if values.dim() == num_axes + 1:
        return values.unsqueeze(1)
    if values.dim() == num_axes + 2:
        return values
    raise ModalignError(
        f"{what} takes {num_axes} axes an item (one more with frames), but a batch of shape {tuple(values.shape)} came"
    )


class MapTokenizer(nn.Module):
    """Conv2d over a map of fixed size; tokens in rows, top left first."""

    def __init__(
        self,
        width: int,
        kernel: int | Sequence[int],
        stride: int | Sequence[int],
        channels: int,
        size: int | Sequence[int],
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.width = width
        self.channels = channels
        self.size = as_pair(size)
        kernels, strides = as_pair(kernel), as_pair(stride)
        name = type(self).__name__
        self.grid = tuple(count_steps(s, k, d, name) for s, k, d in zip(self.size, kernels, strides, strict=True))
        self.num_tokens = self.grid[0] * self.grid[1]
        self.conv = nn.Conv2d(channels, width, kernels, strides, bias=bias)

    def forward(
        self, values: Float[Tensor, "N ..."], variants: tuple[str | None, ...] = ()
    ) -> Float[Tensor, "N T L D"]:
        """Maps [N, C, H, W] or stacks of frames [N, T, C, H, W] to tokens."""
        frames = with_frames(values, 3, type(self).__name__)
        if tuple(frames.shape[2:]) != (self.channels, *self.size):
            raise ModalignError(
                f"{type(self).__name__} was built for {(self.channels, *self.size)} (channels, height, width), "
                f"but {tuple(frames.shape[2:])} came; make decoder and tokenizer agree"
            )
        tokens = self.conv(frames.flatten(0, 1)).flatten(2).transpose(1, 2)
        return tokens.unflatten(0, frames.shape[:2])
