"""Arrays in the page: series as traces with units, vectors and maps as pictures with a scale, stacks as frames."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from modalign.evaluation.report.charts import line_chart
from modalign.evaluation.report.page import text
from modalign.evaluation.report.pictures import SMALL_PX, frame_strip, img, spread
from modalign.evaluation.report.tint import DIVERGING, SEQUENTIAL, colours, png_url, ramp

_ROW = 64


def load(name: str, data: bytes) -> np.ndarray:
    """The numbers of an .npy, an .npz (its first array) or a .csv (a first line of names is skipped); no pickles."""
    extension = name.rsplit(".", 1)[-1].lower()
    if extension == "csv":
        lines = data.decode("utf-8", errors="replace").splitlines()
        return np.loadtxt(lines[_header_lines(lines) :], delimiter=",", ndmin=2)
    content = np.load(io.BytesIO(data), allow_pickle=False)
    if extension == "npz":
        content = content[content.files[0]]
    values = np.asarray(content)
    if not np.issubdtype(values.dtype, np.number) or values.size == 0:
        raise ValueError(f"{name} holds {values.dtype} of shape {values.shape}, not numbers to draw")
    return values.astype(np.float64)


def series(name: str, data: bytes, axes: Mapping[str, Any]) -> str:
    """Traces of [T, C] against time, one chart for each unit that the channels are in, with a legend."""
    values = load(name, data)
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2:
        raise ValueError(f"a series has steps and channels, {name} has shape {values.shape}")
    num_steps, num_channels = values.shape
    names = _names(axes.get("channels"), num_channels, "channel")
    units = _names(axes.get("units"), num_channels, "") if axes.get("units") else [""] * num_channels
    rate_hz = axes.get("rate_hz")
    times = np.arange(num_steps) / float(rate_hz) if rate_hz else np.arange(num_steps, dtype=np.float64)
    charts = []
    for unit in dict.fromkeys(units):
        members = [c for c in range(num_channels) if units[c] == unit]
        curves = {names[c]: list(zip(times.tolist(), values[:, c].tolist(), strict=True)) for c in members}
        tints = {names[c]: i for i, c in enumerate(members)}
        x_label = "seconds" if rate_hz else "step"
        charts.append(line_chart(curves, tints, x_label, unit or "value", width=430, height=170))
    return "".join(charts)


def vector(name: str, data: bytes, axes: Mapping[str, Any]) -> str:
    """The values of [V] as cells of a picture, row by row, with the scale of their colours."""
    values = load(name, data).ravel()
    width = min(_ROW, len(values))
    rows = -(-len(values) // width)
    padded = np.full(rows * width, np.nan)
    padded[: len(values)] = values
    pixels, scale = _coloured(padded.reshape(rows, width), axes)
    about = f"{len(values)} values, {width} a row"
    return f'<img class="strip" alt="values" src="{png_url(pixels)}">{scale}<div class="caption">{text(about)}</div>'


def channels_map(name: str, data: bytes, axes: Mapping[str, Any]) -> str:
    """A map [H, W], or each channel of [C, H, W] or [H, W, C], as a coloured picture with its scale."""
    values = load(name, data)
    if values.ndim == 2:
        values = values[None]
    elif values.ndim == 3 and values.shape[0] > 4:
        values = np.moveaxis(values, 2, 0)
    if values.ndim != 3:
        raise ValueError(f"a map has two axes, or three with its channels, {name} has shape {values.shape}")
    shown = []
    for channel in values[:4]:
        pixels, scale = _coloured(channel, axes)
        shown.append(img(png_url(pixels), (channel.shape[1], channel.shape[0]), name) + scale)
    about = " x ".join(str(n) for n in values.shape[1:])
    return f'{"".join(shown)}<div class="caption">{about} values</div>'


def frames(name: str, data: bytes, axes: Mapping[str, Any]) -> str:
    """Some of the frames of a stack [T, H, W] or [T, H, W, C], in order, on one scale."""
    values = load(name, data)
    if values.ndim not in (3, 4):
        raise ValueError(f"a stack of frames has three or four axes, {name} has shape {values.shape}")
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    chosen = [(values[i] - low) / ((high - low) or 1) for i in spread(len(values))]
    step = max(1, max(values.shape[1:3]) // SMALL_PX)
    strip = frame_strip([_frame(frame[::step, ::step]) for frame in chosen])
    return f'{strip}<div class="caption">{len(values)} frames, values {low:.3g} to {high:.3g}</div>'


def _frame(shares: np.ndarray) -> np.ndarray:
    if shares.ndim == 3 and shares.shape[2] == 3:
        return (shares * 255).round().astype(np.uint8)
    return colours(shares if shares.ndim == 2 else shares.mean(axis=2))


def _coloured(values: np.ndarray, axes: Mapping[str, Any]) -> tuple[np.ndarray, str]:
    """Values as pixels, and their scale: two colours about zero where both signs occur; clear where there is none."""
    known = values[np.isfinite(values)]
    if not known.size:
        raise ValueError("no value is finite")
    low, high = (float(v) for v in np.percentile(known, [1, 99]))
    stops = SEQUENTIAL
    if low < 0 < high:
        stops, high = DIVERGING, max(-low, high)
        low = -high
    pixels = colours((values - low) / ((high - low) or 1), stops)
    pixels[~np.isfinite(values)] = 128
    unit = f" {axes['unit']}" if axes.get("unit") else ""
    return pixels, ramp(f"{low:.3g}{unit}", f"{high:.3g}{unit}", stops)


def _names(given: Any, num_channels: int, word: str) -> list[str]:
    """One name a channel: those given (one for all, or a list), else the word with its number."""
    if isinstance(given, str):
        return [given] * num_channels
    if isinstance(given, Sequence) and len(given) == num_channels:
        return [str(name) for name in given]
    if given is not None:
        raise ValueError(f"{len(given)} names for {num_channels} channels")
    return [f"{word} {i + 1}" for i in range(num_channels)]


def _header_lines(lines: Sequence[str]) -> int:
    try:
        [float(cell) for cell in lines[0].split(",")]
    except ValueError:
        return 1
    return 0
