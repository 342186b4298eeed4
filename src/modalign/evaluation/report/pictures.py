"""Pictures, depth pictures and videos in the page: small ones enlarged with their pixels kept sharp."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import av
import numpy as np
from PIL import Image

from modalign.evaluation.report.page import text
from modalign.evaluation.report.tint import colours, data_url, png_url, ramp

SMALL_PX = 160
_LARGE_PX = 640
_NUM_FRAMES = 8
_MIMES = {"jpg": "image/jpeg", "jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp", "gif": "image/gif"}
_PLAYED = {"mp4": "video/mp4", "webm": "video/webm"}


def picture(name: str, data: bytes, axes: Mapping[str, Any]) -> str:
    """A picture as it is; one that is very large, or of a kind browsers do not know, is encoded again."""
    image = Image.open(io.BytesIO(data))
    extension = name.rsplit(".", 1)[-1].lower()
    if max(image.size) > 2 * _LARGE_PX or extension not in _MIMES:
        small = image.convert("RGB")
        small.thumbnail((_LARGE_PX, _LARGE_PX))
        return img(png_url(np.asarray(small)), small.size, name)
    return img(data_url(data, _MIMES[extension]), image.size, name)


def depth(name: str, data: bytes, axes: Mapping[str, Any]) -> str:
    """A picture of distances in colours, with its scale in metres; grey where nothing came back (a count of zero)."""
    metres = np.asarray(Image.open(io.BytesIO(data))).astype(np.float64) * float(axes.get("unit_m", 0.001))
    if metres.ndim != 2:
        raise ValueError(f"a depth picture has one channel, {name} has shape {metres.shape}")
    seen = metres > 0
    low, high = (float(metres[seen].min()), float(metres[seen].max())) if seen.any() else (0.0, 0.0)
    # Near is bright, as most depth pictures are drawn.
    pixels = colours(1 - (metres - low) / ((high - low) or 1))
    pixels[~seen] = 128
    scale = ramp(f"{high:.2f} m", f"{low:.2f} m")
    lost = "" if seen.all() else f'<div class="caption">grey: no return ({1 - seen.mean():.1%} of pixels)</div>'
    return img(png_url(pixels), (metres.shape[1], metres.shape[0]), name) + scale + lost


def video(name: str, data: bytes, axes: Mapping[str, Any]) -> str:
    """A player where browsers have one for the file's kind, and a strip of frames evenly spaced in time."""
    strip, num_frames, seconds = _frames(data)
    mime = _PLAYED.get(name.rsplit(".", 1)[-1].lower())
    player = f'<video controls loop muted playsinline src="{data_url(data, mime)}"></video>' if mime else ""
    about = f"{num_frames} frames" + (f", {seconds:.1f} s" if seconds else "")
    return f'{player}{frame_strip(strip)}<div class="caption">{text(about)}</div>'


def frame_strip(frames: list[np.ndarray]) -> str:
    """Frames [H, W, 3] uint8 side by side, a thin gap between them."""
    gap = np.full((frames[0].shape[0], 2, 3), 128, np.uint8)
    pieces = [piece for frame in frames for piece in (frame, gap)][:-1]
    return f'<img class="strip" alt="frames in order" src="{png_url(np.concatenate(pieces, axis=1))}">'


def spread(total: int, wanted: int = _NUM_FRAMES) -> list[int]:
    """Which of `total` frames to show: at most `wanted`, from the first to the last."""
    return sorted(set(np.linspace(0, total - 1, min(total, wanted)).round().astype(int).tolist()))


def img(url: str, size: tuple[int, int], name: str) -> str:
    """An image element; small pictures are enlarged by whole-pixel blocks."""
    kind = "pixels" if max(size) <= SMALL_PX else "photo"
    return f'<img class="{kind}" alt="{text(name)}" title="{size[0]} x {size[1]} px" src="{url}">'


def _frames(data: bytes) -> tuple[list[np.ndarray], int, float]:
    """The frames of the strip, how many the video has, and how long it is in seconds."""
    with av.open(io.BytesIO(data), mode="r") as container:
        stream = container.streams.video[0]
        seconds = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
        total = len([frame.pts for frame in container.decode(stream)])
    if total == 0:
        raise ValueError("the video has no frame that decodes")
    wanted = set(spread(total))
    with av.open(io.BytesIO(data), mode="r") as container:
        frames = [_small(f.to_image()) for i, f in enumerate(container.decode(video=0)) if i in wanted]
    return frames, total, seconds


def _small(image: Image.Image) -> np.ndarray:
    image.thumbnail((SMALL_PX, SMALL_PX))
    return np.asarray(image.convert("RGB"))
