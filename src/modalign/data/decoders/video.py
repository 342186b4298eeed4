"""Video: frames at even distances through the clip, cropped alike and standardised."""

from __future__ import annotations

import io
from collections.abc import Iterator

import av
import numpy as np
import torch
from numpy.random import Generator
from PIL import Image
from torch import Tensor

from modalign.data.decoders.damage import undecodable
from modalign.data.decoders.image import CLIP_MEAN, CLIP_STD, Crop, standardise
from modalign.data.decoders.settings import check_above_zero, check_counts


class VideoDecoder:
    """A clip as [num_frames, 3, size_px, size_px]: the middle frame of each of num_frames equal parts.

    With `jitter` and a generator, a random frame of each part. A clip that yields fewer frames than its container
    declares is damaged; one shorter than num_frames repeats frames.
    """

    def __init__(
        self,
        num_frames: int,
        size_px: int,
        mean: tuple[float, float, float] = CLIP_MEAN,
        std: tuple[float, float, float] = CLIP_STD,
        jitter: bool = False,
        scale: tuple[float, float] | None = None,
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
    ) -> None:
        check_counts("VideoDecoder", num_frames=num_frames)
        check_above_zero("VideoDecoder", std=std)
        self.num_frames, self.jitter = num_frames, jitter
        self.crop = Crop(size_px, scale, ratio)
        self.mean, self.std = tuple(mean), tuple(std)

    def __call__(self, data: bytes, rng: Generator | None = None) -> Tensor:
        """Decode; raises ValueError for bytes that are no video or a broken one."""
        with undecodable("video"):
            frames = self._chosen(data, rng)
        box = self.crop.box(frames[0].width, frames[0].height, rng)
        pictures = [self.crop.cut(frame, box) for frame in frames]
        return torch.stack(
            [standardise(np.asarray(picture, dtype=np.float32) / 255, self.mean, self.std) for picture in pictures]
        )

    def _chosen(self, data: bytes, rng: Generator | None) -> list[Image.Image]:
        total = _declared_frames(data) or sum(1 for _ in _decoded(data))
        if total < 1:
            raise ValueError("no frames in it")
        places = np.zeros(self.num_frames) + 0.5
        if self.jitter and rng is not None:
            places = rng.random(self.num_frames)
        chosen = np.floor((np.arange(self.num_frames) + places) * total / self.num_frames).astype(int)
        wanted, found = set(chosen.tolist()), {}
        for number, frame in enumerate(_decoded(data)):
            if number in wanted:
                found[number] = frame.to_image()
            if number >= chosen[-1]:
                break
        if missing := sorted(wanted - found.keys()):
            raise ValueError(f"it ends before frame {missing[0]} of the {total} that it declares")
        return [found[number] for number in chosen.tolist()]


def _declared_frames(data: bytes) -> int:
    with av.open(io.BytesIO(data), mode="r") as container:
        if not container.streams.video:
            raise ValueError("no video stream in it")
        return container.streams.video[0].frames


def _decoded(data: bytes) -> Iterator[av.VideoFrame]:
    with av.open(io.BytesIO(data), mode="r") as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1  # the loader's workers are the parallelism
        yield from container.decode(stream)
