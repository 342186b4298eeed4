"""Pictures: decode, resize and crop; the crop is random only where a range for it is set.

What comes out are the picture's 8-bit levels: they are standardised when the batch is on its device.
"""

from __future__ import annotations

import io
import math

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.random import Generator
from PIL import Image
from torch import Tensor

from modalign.data.decoders.damage import undecodable
from modalign.data.decoders.settings import check_above_zero, check_counts
from modalign.types import Standard

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
Box = tuple[float, float, float, float]


def open_picture(data: bytes) -> Image.Image:
    """The picture in a JPEG, PNG, WebP, BMP or TIFF file, fully read; raises ValueError."""
    with undecodable("picture"):
        picture = Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP", "BMP", "TIFF"))
        picture.load()
    return picture


def centre_box(width: int, height: int) -> Box:
    """The largest centred square: left, upper, right, lower in pixels."""
    side = min(width, height)
    left, upper = (width - side) / 2, (height - side) / 2
    return left, upper, left + side, upper + side


def random_box(width: int, height: int, scale: tuple[float, float], ratio: tuple[float, float], rng: Generator) -> Box:
    """A box of random area and aspect ratio (torchvision's rule), or the centre after ten tries."""
    for _ in range(10):
        area = width * height * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        box_width, box_height = math.sqrt(area * aspect), math.sqrt(area / aspect)
        if box_width <= width and box_height <= height:
            left, upper = rng.uniform(0, width - box_width), rng.uniform(0, height - box_height)
            return left, upper, left + box_width, upper + box_height
    return centre_box(width, height)


class Crop:
    """Which part of a picture is kept: the centre square, or with `scale` and a generator a random resized crop."""

    def __init__(
        self, size_px: int, scale: tuple[float, float] | None = None, ratio: tuple[float, float] = (3 / 4, 4 / 3)
    ) -> None:
        check_counts("picture decoder", size_px=size_px)
        check_above_zero("picture decoder", scale=scale or 1, ratio=ratio)
        self.size_px, self.scale, self.ratio = size_px, scale, ratio

    def box(self, width: int, height: int, rng: Generator | None) -> Box:
        """The part to keep of a picture of this size."""
        if self.scale is None or rng is None:
            return centre_box(width, height)
        return random_box(width, height, self.scale, self.ratio, rng)

    def cut(self, picture: Image.Image, box: Box, resample: Image.Resampling = Image.Resampling.BICUBIC) -> Image.Image:
        """That part, resized to size_px x size_px."""
        size = (self.size_px, self.size_px)
        if picture.size == size and box == (0, 0, *size):
            return picture
        return picture.resize(size, resample, box=box)


class ImageDecoder:
    """A picture as uint8 [3, size_px, size_px], with the `standard` of its mean and std.

    `scale` turns random resized crops on.
    """

    def __init__(
        self,
        size_px: int,
        mean: tuple[float, float, float] = CLIP_MEAN,
        std: tuple[float, float, float] = CLIP_STD,
        scale: tuple[float, float] | None = None,
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
    ) -> None:
        check_above_zero("ImageDecoder", std=std)
        self.crop = Crop(size_px, scale, ratio)
        self.standard = Standard(tuple(mean), tuple(std))

    @property
    def shape(self) -> tuple[int, ...]:
        """What every file becomes."""
        return 3, self.crop.size_px, self.crop.size_px

    def __call__(self, data: bytes, rng: Generator | None = None) -> Tensor:
        """Decode; raises ValueError for bytes that are no picture."""
        picture = open_picture(data).convert("RGB")
        cut = self.crop.cut(picture, self.crop.box(*picture.size, rng))
        return levels(cut)


def levels(picture: Image.Image) -> UInt8[Tensor, "C H W"]:
    """The 8-bit levels of a picture, channels first."""
    pixels = np.array(picture)
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def standardise(pixels: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """[H, W, C] in 0..1 to [C, H, W], minus mean and over std of each channel."""
    scaled = (pixels - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    return torch.from_numpy(np.ascontiguousarray(scaled.transpose(2, 0, 1), dtype=np.float32))
