"""Decoder and tokenizer for each kind of sample, with shapes that give a sensible number of tokens."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from modalign.cli.drafts.host import Host
from modalign.cli.drafts.sample import SampleFile
from modalign.config.schema import FROM_CAPTIONS
from modalign.errors import ModalignError

TOKENS = 32  # aimed at; a language model's context and a projector's attention pay for each
FEWEST_TOKENS, MOST_TOKENS = 8, 64
MAX_STEPS, KEPT_STEPS = 4096, 2048
MAX_SIDE = 128
MAX_FRAMES = 8
NUM_POINTS, GROUP_SIZE = 320, 24
LOW_RATE_HZ, HIGH_RATE_HZ = 8000, 16000
MAX_SPECTROGRAM_FRAMES = 1024

Block = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Draft:
    """What the YAML will say: settings of decoder and tokenizer, and a comment for some of their keys."""

    decoder: Block
    tokenizer: Block
    num_frames: int = 0
    display: Block = field(default_factory=dict)
    comments: dict[str, str] = field(default_factory=dict)
    tokenizer_comments: dict[str, str] = field(default_factory=dict)


def draft(sample: SampleFile, name: str, host: Host) -> Draft:
    """The draft for a sample's kind; its tokenizer is a part of the modality's own name, but for pictures."""
    return _DRAFTS[sample.kind](sample, name, host)


def window(length: int) -> tuple[int, int]:
    """Kernel and stride with which about TOKENS windows, half over one another, cover `length`."""
    stride = max(1, round(length / TOKENS))
    kernel = min(length, 2 * stride)
    return (kernel, stride) if (length - kernel) // stride + 1 >= FEWEST_TOKENS else (min(length, stride), stride)


def patches(height: int, width: int) -> tuple[list[int], list[int]]:
    """Size and patch of a map [height, width], at most MAX_SIDE: about TOKENS patches; resized where none tile it."""
    shrink = min(1.0, MAX_SIDE / max(height, width))
    high, wide = max(1, round(height * shrink)), max(1, round(width * shrink))
    if exact := _dividing(high, wide):
        return [high, wide], exact
    rows = min(high, max(1, round(math.sqrt(TOKENS * high / wide))))
    columns = min(wide, max(1, round(TOKENS / rows)))
    patch = [max(1, round(high / rows)), max(1, round(wide / columns))]
    if (high // patch[0]) * (wide // patch[1]) > MOST_TOKENS:
        patch = [math.ceil(high / rows), math.ceil(wide / columns)]
    return [max(1, high // patch[0]) * patch[0], max(1, wide // patch[1]) * patch[1]], patch


def _dividing(high: int, wide: int) -> list[int] | None:
    """The patch that divides [high, wide] whole into about TOKENS patches and is nearest to a square, if any does."""
    tall, broad = ([side for side in range(1, length + 1) if length % side == 0] for length in (high, wide))
    found = [(high // p * (wide // q), p, q) for p in tall for q in broad]
    fit = [one for one in found if TOKENS / 2 <= one[0] <= MOST_TOKENS]
    costs = [(abs(math.log(n / TOKENS)) + abs(math.log(p / q)) / 2, p, q) for n, p, q in fit]
    cost, *patch = min(costs, default=(math.inf, 0, 0))
    return patch if cost < 1 else None


def spread(array: np.ndarray, axis: tuple[int, ...] | None, most: int) -> tuple[Any, Any]:
    """Mean and standard deviation of the sample, by channel where there are at most `most` channels."""
    mean, std = np.mean(array, axis=axis), np.std(array, axis=axis)
    if np.ndim(mean) and len(mean) > most:
        mean, std = np.mean(array), np.std(array)
    std = np.where(std > 0, std, 1.0)
    return _rounded(mean), _rounded(std)


def _rounded(values: Any) -> Any:
    return [float(f"{v:.3g}") for v in values] if np.ndim(values) else float(f"{float(values):.3g}")


def _series(sample: SampleFile, name: str, host: Host) -> Draft:
    assert sample.array is not None
    array = sample.array[:, None] if sample.array.ndim == 1 else sample.array
    if array.ndim != 2:
        raise ModalignError(f"--kind series: {sample.path} has shape {list(array.shape)}, not [steps, channels]")
    length, channels = array.shape
    steps = length if length <= MAX_STEPS else KEPT_STEPS
    kernel, stride = window(steps)
    mean, std = spread(array, (0,), 16)
    others = "shorter are padded with zeros, longer refused (mode: pad would cut them)"
    comment = f"of {length} in the sample; {others if steps == length else 'others are resampled, too'}"
    mode = {"mode": "at_most" if steps == length else "resample"}
    return Draft(
        {"_target_": "modalign.data.decoders.series.SeriesDecoder", "num_steps": steps, "num_channels": channels,
         "mean": mean, "std": std, **mode},
        {"part": name, "_target_": "modalign.models.tokenizers.series.SeriesTokenizer", "width": host.width,
         "num_channels": channels, "num_steps": steps, "kernel": kernel, "stride": stride, "bias": True},
        display={"kind": "series"}, comments={"num_steps": comment, "mean": _ONE_SAMPLE},
    )  # fmt: skip


def _vector(sample: SampleFile, name: str, host: Host) -> Draft:
    from modalign.data.decoders.vectors import is_column

    assert sample.array is not None
    array = sample.array[:, 0] if is_column(sample.array) else sample.array
    values = array.mean(axis=0) if array.ndim == 2 else array
    if values.ndim != 1:
        raise ModalignError(f"--kind vector: {sample.path} has shape {list(sample.array.shape)}, not one axis")
    mean, std = spread(values, None, 1)
    return Draft(
        {"_target_": "modalign.data.decoders.vectors.VectorDecoder", "mean": mean, "std": std},
        {"part": name, "_target_": "modalign.models.tokenizers.vector.VectorTokenizer", "width": host.width,
         "num_tokens": FEWEST_TOKENS, "sizes": {"default": len(values)}, "start": FROM_CAPTIONS},
        display={"kind": "vector"},
        comments={"mean": _ONE_SAMPLE},
        tokenizer_comments={
            "sizes": "one length a variant, such as {one: 320, two: 384}, where they differ",
            "start": "a ridge regression onto the captions; null: random (then without tokenizer_rate_scale)",
        },
    )  # fmt: skip


def _map(sample: SampleFile, name: str, host: Host) -> Draft:
    assert sample.array is not None
    if sample.array.ndim not in (2, 3):
        raise ModalignError(f"--kind map: {sample.path} has shape {list(sample.array.shape)}, not [height, width]")
    array = sample.array[:, :, None] if sample.array.ndim == 2 else sample.array
    decoder, tokenizer = _maps(array, name, host)
    comment = f"height and width, of {list(array.shape[:2])} in the sample; others are resized"
    target = {"_target_": "modalign.data.decoders.maps.MapDecoder"}
    return Draft(target | decoder, tokenizer, display={"kind": "map"}, comments={"size": comment, "mean": _ONE_SAMPLE})


def _frames(sample: SampleFile, name: str, host: Host) -> Draft:
    if sample.array is None:
        return _video(sample, name, host)
    if sample.array.ndim not in (3, 4):
        raise ModalignError(
            f"--kind frames: {sample.path} has shape {list(sample.array.shape)}, not [frames, height, width]"
        )
    array = sample.array[..., None] if sample.array.ndim == 3 else sample.array
    count = min(len(array), MAX_FRAMES)
    decoder, tokenizer = _maps(array, name, host)
    comments = {"num_frames": f"of {len(array)} in the sample, at even distances", "mean": _ONE_SAMPLE}
    target = {"_target_": "modalign.data.decoders.frames.FramesDecoder", "num_frames": count}
    return Draft(target | decoder, tokenizer, count, {"kind": "frames"}, comments)


def _maps(array: np.ndarray, name: str, host: Host) -> tuple[Block, Block]:
    """Decoder and tokenizer settings for [..., height, width, channels]."""
    height, width, channels = array.shape[-3:]
    size, patch = patches(height, width)
    mean, std = spread(array, tuple(range(array.ndim - 1)), 16)
    tokenizer = {
        "part": name, "_target_": "modalign.models.tokenizers.maps.MapTokenizer", "width": host.width, "kernel": patch,
        "stride": patch, "channels": channels, "size": size,
    }  # fmt: skip
    return {"size": size, "channels": channels, "mean": mean, "std": std}, tokenizer


def _points(sample: SampleFile, name: str, host: Host) -> Draft:
    count, scale = NUM_POINTS, {}
    if sample.array is not None:
        shape = list(sample.array.shape)
        if len(shape) != 2 or shape[1] not in (3, 6):
            raise ModalignError(f"--kind points: {sample.path} has shape {shape}, not [points, 3 or 6]")
        count = min(len(sample.array), NUM_POINTS)
        if sample.array.shape[1] == 6 and sample.array[:, 3:].max() > 1:
            scale = {"colour_scale": 255.0}
    groups = max(1, min(TOKENS, count // 2))
    return Draft(
        {"_target_": "modalign.data.decoders.points.PointDecoder", "num_points": count, **scale},
        {"part": name, "_target_": "modalign.models.tokenizers.points.PointTokenizer", "width": host.width,
         "num_points": count, "num_groups": groups, "group_size": min(GROUP_SIZE, count), "channels": 6},
        display={"kind": "points"}, comments={"num_points": "larger clouds are thinned out, smaller repeat points"},
    )  # fmt: skip


def _image(sample: SampleFile, name: str, host: Host) -> Draft:
    from modalign.data.decoders.image import open_picture

    tokenizer = _visual(name, host)
    try:
        picture = open_picture(sample.data)
    except ValueError as error:
        raise ModalignError(f"{sample.path} does not decode: {error}") from None
    if picture.mode.startswith("I"):
        farthest = math.ceil(np.asarray(picture).max() / 1000) or 1
        return Draft(
            {"_target_": "modalign.data.decoders.depth.DepthDecoder", "size_px": tokenizer["size_px"],
             "max_m": float(farthest)},
            tokenizer, display={"kind": "depth", "max_m": float(farthest)}, tokenizer_comments=_SHARED,
            comments={"max_m": "a 16-bit picture is read as millimetres; farther than this counts as this"},
        )  # fmt: skip
    decoder = {"_target_": "modalign.data.decoders.image.ImageDecoder", "size_px": tokenizer["size_px"]}
    return Draft(decoder, tokenizer, display={"kind": "picture"}, tokenizer_comments=_SHARED)


def _video(sample: SampleFile, name: str, host: Host) -> Draft:
    tokenizer = _visual(name, host)
    decoder = {"_target_": "modalign.data.decoders.video.VideoDecoder", "num_frames": MAX_FRAMES}
    decoder |= {"size_px": tokenizer["size_px"]}
    comments = {"num_frames": "the middle frame of each equal part of the clip"}
    return Draft(decoder, tokenizer, MAX_FRAMES, {"kind": "video"}, comments, _SHARED)


def _visual(name: str, host: Host) -> Block:
    """The pictures' own tokenizer, shared, or one of the same kind where the set has none."""
    if host.pictures is not None:
        return dict(host.pictures)
    patch = {"patch_px": 8, "size_px": 48}
    return {"part": name, "_target_": "modalign.models.tokenizers.patch.PatchTokenizer", "width": host.width, **patch}


def _sound(sample: SampleFile, name: str, host: Host) -> Draft:
    from modalign.data.decoders.audio import SpectrogramDecoder, read_sound

    try:
        wave, found_hz = read_sound(sample.data)
        rate_hz = min(found_hz, HIGH_RATE_HZ)
        hop_s, window_s, mels = 0.01, 0.032, 32 if rate_hz <= LOW_RATE_HZ else 64
        frames = min(MAX_SPECTROGRAM_FRAMES, max(FEWEST_TOKENS, int((len(wave) / found_hz - window_s) / hop_s) + 1))
        shape: Block = {"rate_hz": rate_hz, "num_mels": mels, "num_frames": frames}
        shape |= {"window_s": window_s, "hop_s": hop_s}
        mean, std = spread(SpectrogramDecoder(**shape, mean=0.0, std=1.0)(sample.data).numpy(), None, 1)
    except ValueError as error:
        raise ModalignError(f"{sample.path} does not decode: {error}") from None
    kernel, stride = window(frames)
    seconds = len(wave) / found_hz
    return Draft(
        {"_target_": "modalign.data.decoders.audio.SpectrogramDecoder", **shape, "mean": mean, "std": std},
        {"part": name, "_target_": "modalign.models.tokenizers.spectrogram.SpectrogramTokenizer", "width": host.width,
         "kernel": [mels, kernel], "stride": [mels, stride], "num_mels": mels, "num_frames": frames},
        display={"kind": "audio"},
        comments={"num_frames": f"{seconds:.3g} s in the sample; others are cut or padded", "mean": _ONE_SAMPLE},
    )  # fmt: skip


_ONE_SAMPLE = "of this one sample: put in your data's"
_SHARED = {"part": "shared with the set's other pictures"}
_DRAFTS: dict[str, Callable[[SampleFile, str, Host], Draft]] = {
    "series": _series, "vector": _vector, "map": _map, "frames": _frames, "points": _points, "image": _image,
    "sound": _sound,
}  # fmt: skip
