"""Sound to log-mel spectrograms as Kaldi makes them: soundfile reads, NumPy does the rest.

NumPy and not torch, because torch's sums and products depend, in their last bits, on the number of threads: a sample
would differ between a loader's worker and the main process.
"""

from __future__ import annotations

import io
import math
from functools import lru_cache

import numpy as np
import soundfile
import torch
from numpy.random import Generator
from torch import Tensor

from modalign.data.decoders.damage import finite, undecodable
from modalign.data.decoders.settings import check_above_zero, check_counts

_PREEMPHASIS = 0.97
_SINC_ZEROS = 16
_RESAMPLE_CHUNK = 1 << 16
_RATES_HZ = range(1000, 384_001)
_UNKNOWN_LENGTH = 1 << 40
_STREAMED_WAV = 0xFFFFFF00


class SpectrogramDecoder:
    """A sound (FLAC, WAV, MP3, OGG) as [1, num_mels, num_frames] of log-mel energies, minus mean and over std.

    Channels are averaged; another rate is resampled to rate_hz. Short sounds are padded with zeros before
    standardising (OneLLM's rule); long ones keep their start, or with `random_crop` and a generator a random part.
    `mask_mels` and `mask_frames` are the largest widths of SpecAugment's random bands (0: none), which are set to zero
    before standardising too. OneLLM's values: 16000 Hz, 128 mels, 1024 frames, mean -4.2677393, std 9.1379948.
    """

    def __init__(
        self,
        rate_hz: int = 16000,
        num_mels: int = 128,
        num_frames: int = 1024,
        window_s: float = 0.025,
        hop_s: float = 0.010,
        mean: float = -4.2677393,
        std: float = 9.1379948,
        low_hz: float = 20.0,
        random_crop: bool = False,
        mask_mels: int = 0,
        mask_frames: int = 0,
    ) -> None:
        check_counts("SpectrogramDecoder", rate_hz=rate_hz, num_mels=num_mels, num_frames=num_frames)
        check_above_zero("SpectrogramDecoder", window_s=window_s, hop_s=hop_s, std=std)
        self.rate_hz, self.num_mels, self.num_frames, self.low_hz = rate_hz, num_mels, num_frames, low_hz
        self.window, self.hop = round(window_s * rate_hz), round(hop_s * rate_hz)
        self.mean, self.std, self.random_crop = mean, std, random_crop
        self.mask_mels, self.mask_frames = mask_mels, mask_frames

    @property
    def shape(self) -> tuple[int, ...]:
        """What every file becomes."""
        return 1, self.num_mels, self.num_frames

    def __call__(self, data: bytes, rng: Generator | None = None) -> Tensor:
        """Decode; raises ValueError for bytes that are no sound, or less of it than one window."""
        wave, rate_hz = read_sound(data)
        wave = resample(wave, rate_hz, self.rate_hz)
        if len(wave) < self.window:
            raise ValueError(f"{len(wave)} samples at {self.rate_hz} Hz are less than one window of {self.window}")
        wave = self._crop(wave - wave.mean(), rng)
        mel = log_mel(wave, self.rate_hz, self.num_mels, self.window, self.hop, self.low_hz)
        mel = np.pad(mel, ((0, 0), (0, self.num_frames - mel.shape[1])))
        return torch.from_numpy((self._mask(mel, rng) - np.float32(self.mean))[None] / np.float32(self.std))

    def _crop(self, wave: np.ndarray, rng: Generator | None) -> np.ndarray:
        """What num_frames windows need of the wave, from its start or from a random frame on."""
        spare = (len(wave) - self.window) // self.hop + 1 - self.num_frames
        start = int(rng.integers(spare + 1)) if self.random_crop and spare > 0 and rng is not None else 0
        first = start * self.hop
        return wave[first : first + self.window + (self.num_frames - 1) * self.hop]

    def _mask(self, mel: np.ndarray, rng: Generator | None) -> np.ndarray:
        if rng is None:
            return mel
        for bands, widest in ((mel, self.mask_mels), (mel.T, self.mask_frames)):
            if widest:
                width = int(rng.integers(min(widest, len(bands)) + 1))
                first = int(rng.integers(len(bands) - width + 1))
                bands[first : first + width] = 0
        return mel


def read_sound(data: bytes) -> tuple[np.ndarray, int]:
    """The mean over channels as float32 [samples] in -1..1, and the rate in Hz; raises ValueError."""
    with undecodable("sound"):
        if _wav_is_short(data):
            raise ValueError(f"it ends after {len(data)} bytes, before its declared end")
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            declared, rate_hz = file.frames, file.samplerate
            if rate_hz not in _RATES_HZ:
                raise ValueError(f"a rate of {rate_hz} Hz")
            wave = file.read(dtype="float32", always_2d=True)
        if not len(wave) or len(wave) < declared < _UNKNOWN_LENGTH:
            raise ValueError(f"{len(wave)} of the {declared} samples that it declares")
    return finite(wave, "sound").mean(axis=1), rate_hz


def _wav_is_short(data: bytes) -> bool:
    """Whether a WAV file is shorter than its header says, which libsndfile does not mind."""
    return data[:4] == b"RIFF" and len(data) < 8 + int.from_bytes(data[4:8], "little") < _STREAMED_WAV


def log_mel(wave: np.ndarray, rate_hz: int, num_mels: int, window: int, hop: int, low_hz: float) -> np.ndarray:
    """Log-mel energies [num_mels, frames] of a wave; window and hop in samples, whole windows only (Kaldi's rule)."""
    frames = np.lib.stride_tricks.sliding_window_view(wave, window)[::hop]
    frames = frames - frames.mean(axis=1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    shaped = (frames - np.float32(_PREEMPHASIS) * before) * np.hanning(window).astype(np.float32)
    size = 1 << (window - 1).bit_length()
    power = np.square(np.abs(np.fft.rfft(shaped, n=size))).T.astype(np.float32)
    energies = np.empty((num_mels, len(frames)), np.float32)
    for number, (first, weights) in enumerate(mel_bank(rate_hz, num_mels, size, low_hz)):
        energies[number] = (power[first : first + len(weights)] * weights[:, None]).sum(axis=0)
    return np.log(np.maximum(energies, np.finfo(np.float32).eps))


@lru_cache(maxsize=8)
def mel_bank(rate_hz: int, num_mels: int, size: int, low_hz: float) -> list[tuple[int, np.ndarray]]:
    """Triangles, even on the scale 1127 ln(1 + f / 700) from low_hz to half the rate: first bin, and weights."""

    def mel(hz: float | np.ndarray) -> np.ndarray:
        return 1127 * np.log1p(np.asarray(hz) / 700)

    edges = np.linspace(mel(low_hz), mel(rate_hz / 2), num_mels + 2)
    places = mel(np.arange(size // 2) * rate_hz / size)  # Kaldi leaves the highest bin out
    filters = []
    for left, centre, right in zip(edges, edges[1:], edges[2:], strict=False):
        weights = np.minimum((places - left) / (centre - left), (right - places) / (right - centre)).clip(0)
        (bins,) = weights.nonzero()
        first, end = (bins[0], bins[-1] + 1) if len(bins) else (0, 0)
        filters.append((int(first), weights[first:end].astype(np.float32)))
    return filters


def resample(wave: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    """The wave at another rate, by a Hann-windowed sinc that keeps what both rates can hold."""
    if from_hz == to_hz:
        return wave
    step, num_phases = from_hz // math.gcd(from_hz, to_hz), to_hz // math.gcd(from_hz, to_hz)
    weights = _sinc_weights(step, num_phases)
    taps = weights.shape[1]
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(wave, (taps // 2, taps // 2 + 1)), taps)
    count = math.ceil(len(wave) * to_hz / from_hz)
    resampled = np.empty(count, np.float32)
    for first in range(0, count, _RESAMPLE_CHUNK):
        places = np.arange(first, min(first + _RESAMPLE_CHUNK, count))
        resampled[places] = (windows[places * step // num_phases] * weights[places % num_phases]).sum(axis=1)
    return resampled


@lru_cache(maxsize=4)
def _sinc_weights(step: int, num_phases: int) -> np.ndarray:
    """Weights [num_phases, taps] of the inputs around each output place, which lies `step / num_phases` inputs on."""
    cutoff = 0.98 * min(1.0, num_phases / step)
    reach = math.ceil(_SINC_ZEROS / cutoff)
    between = (np.arange(num_phases) * step % num_phases) / num_phases
    places = (np.arange(-reach, reach + 1)[None] - between[:, None]) * cutoff
    shape = np.cos(np.clip(places / _SINC_ZEROS, -1, 1) * math.pi / 2) ** 2
    return (np.sinc(places) * shape * cutoff).astype(np.float32)
