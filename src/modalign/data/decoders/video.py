"""Video: frames at even distances through the clip, cropped alike, as 8-bit levels."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

import av
import numpy as np
import torch
from av.video.reformatter import VideoReformatter
from numpy.random import Generator
from PIL import Image
from torch import Tensor

from modalign.data.decoders.damage import undecodable
from modalign.data.decoders.image import CLIP_MEAN, CLIP_STD, Crop, levels
from modalign.data.decoders.settings import check_above_zero, check_counts
from modalign.types import Standard


class VideoDecoder:
    """A clip as uint8 [num_frames, 3, size_px, size_px], with the `standard` of its mean and std.

    Of each of num_frames equal parts it takes the middle frame.

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
        self.standard = Standard(tuple(mean), tuple(std))

    @property
    def shape(self) -> tuple[int, ...]:
        """What every file becomes."""
        return self.num_frames, 3, self.crop.size_px, self.crop.size_px

    def __call__(self, data: bytes, rng: Generator | None = None) -> Tensor:
        """Decode; raises ValueError for bytes that are no video or a broken one."""
        with undecodable("video"):
            frames = self._chosen(data, rng)
        box = self.crop.box(frames[0].width, frames[0].height, rng)
        pictures = [self.crop.cut(frame, box) for frame in frames]
        return torch.stack([levels(picture) for picture in pictures])

    def _chosen(self, data: bytes, rng: Generator | None) -> list[Image.Image]:
        with _open(data) as container:
            total = container.streams.video[0].frames or _count(data)
            if total < 1:
                raise ValueError("no frames in it")
            places = np.full(self.num_frames, 0.5)
            if self.jitter and rng is not None:
                places = rng.random(self.num_frames)
            chosen = np.floor((np.arange(self.num_frames) + places) * total / self.num_frames).astype(int).tolist()
            found, reformatter = {}, VideoReformatter()  # in one thread: its own cost more than its work
            for number, frame in enumerate(container.decode(video=0)):
                if number in chosen:
                    picture = reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
                    found[number] = Image.fromarray(picture)
                if number >= chosen[-1]:
                    break
        for number in chosen:
            if number not in found:
                raise ValueError(f"it ends before frame {number} of the {total} that it declares")
        return [found[number] for number in chosen]


@contextmanager
def _open(data: bytes) -> Iterator[av.container.InputContainer]:
    with av.open(io.BytesIO(data), mode="r") as container:
        if not container.streams.video or container.streams.video[0].codec_context is None:
            raise ValueError("no video stream in it that can be decoded")
        container.streams.video[0].codec_context.thread_count = 1  # the loader's workers are the parallelism
        yield container


def _count(data: bytes) -> int:
    """The number of frames of a container that does not declare it: all of them are decoded for that."""
    with _open(data) as container:
        return sum(1 for _ in container.decode(video=0))
