"""Sounds in the page: a waveform that can be read and a player that can be heard."""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import soundfile

from modalign.evaluation.report.charts import nice_ticks
from modalign.evaluation.report.page import text
from modalign.evaluation.report.tint import data_url

_MIMES = {"flac": "audio/flac", "wav": "audio/wav", "mp3": "audio/mpeg", "ogg": "audio/ogg"}
_BINS = 320
_HEIGHT = 90


def audio(name: str, data: bytes, axes: Mapping[str, Any]) -> str:
    """The waveform against seconds, and a player."""
    wave, rate_hz = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    mono = wave.mean(axis=1)
    if not len(mono):
        raise ValueError(f"{name} holds no sound")
    mime = _MIMES.get(name.rsplit(".", 1)[-1].lower(), "audio/flac")
    peak = float(np.abs(mono).max())
    about = f"{len(mono) / rate_hz:.1f} s, {rate_hz / 1000:g} kHz, peak {peak:.2f}"
    player = f'<audio controls src="{data_url(data, mime)}"></audio>'
    return f'{_waveform(mono, rate_hz)}<div class="caption">{text(about)}</div>{player}'


def _waveform(mono: np.ndarray, rate_hz: int) -> str:
    """The range of the samples in each of some hundred bins, scaled to the loudest, as one shape."""
    edges = np.linspace(0, len(mono), min(_BINS, len(mono)) + 1).astype(int)
    scale = float(np.abs(mono).max()) or 1.0
    highs = [float(mono[a:b].max()) / scale for a, b in itertools.pairwise(edges)]
    lows = [float(mono[a:b].min()) / scale for a, b in itertools.pairwise(edges)]
    middle, reach = _HEIGHT / 2 - 8, _HEIGHT / 2 - 10
    top = [f"{i},{middle - reach * h:.1f}" for i, h in enumerate(highs)]
    bottom = [f"{i},{middle - reach * low:.1f}" for i, low in reversed(list(enumerate(lows)))]
    seconds = len(mono) / rate_hz
    ticks = "".join(
        f'<text x="{len(highs) * t / seconds:.1f}" y="{_HEIGHT - 3}" text-anchor="middle">{t:g} s</text>'
        for t in nice_ticks(0, seconds)
        if 0 < t < 0.97 * seconds
    )
    tint = 'fill="var(--c0)" stroke="var(--c0)" stroke-width=".6"'
    return (
        f'<svg viewBox="0 0 {len(highs)} {_HEIGHT}" role="img" aria-label="waveform">'
        f'<line class="grid" x1="0" x2="{len(highs)}" y1="{middle}" y2="{middle}"/>'
        f'<polygon points="{" ".join(top + bottom)}" {tint}/>{ticks}</svg>'
    )
