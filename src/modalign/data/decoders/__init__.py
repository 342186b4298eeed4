"""From a stored member to a float32 tensor, one file a medium; data/extensions.py lists what is decoded at all."""

from modalign.data.decoders.audio import SpectrogramDecoder
from modalign.data.decoders.depth import DepthDecoder
from modalign.data.decoders.frames import FramesDecoder
from modalign.data.decoders.image import ImageDecoder
from modalign.data.decoders.maps import MapDecoder
from modalign.data.decoders.normals import NormalDecoder
from modalign.data.decoders.points import PointDecoder
from modalign.data.decoders.series import SeriesDecoder
from modalign.data.decoders.stack import StackDecoder
from modalign.data.decoders.vectors import VectorDecoder
from modalign.data.decoders.video import VideoDecoder

__all__ = [
    "DepthDecoder",
    "FramesDecoder",
    "ImageDecoder",
    "MapDecoder",
    "NormalDecoder",
    "PointDecoder",
    "SeriesDecoder",
    "SpectrogramDecoder",
    "StackDecoder",
    "VectorDecoder",
    "VideoDecoder",
]
