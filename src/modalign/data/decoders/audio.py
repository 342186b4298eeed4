"""Sound to log-mel spectrograms as Kaldi makes them: soundfile reads, plain torch does the rest."""

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
_UNKNOWN_LENGTH = 1 << 40


class SpectrogramDecoder:
    """A sound (FLAC, WAV, MP3, OGG) as [1, num_mels, num_frames] of log-mel energies, minus mean and over std.

    Channels are averaged; another rate is resampled to rate_hz. Short sounds are padded with zeros before
    standardising (OneLLM's rule); long ones keep their start, or with `random_crop` and a generator a random part.
    `mask_mels` and `mask_frames` are the largest widths of SpecAugment's random bands (0: none). OneLLM's values:
    16000 Hz, 128 mels, 1024 frames, mean -4.2677393, std 9.1379948.
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

    def __call__(self, data: bytes, rng: Generator | None = None) -> Tensor:
        """Decode; raises ValueError for bytes that are no sound, or less of it than one window."""
        wave, rate_hz = read_sound(data)
        wave = resample(wave, rate_hz, self.rate_hz)
        if len(wave) < self.window:
            raise ValueError(f"{len(wave)} samples at {self.rate_hz} Hz are less than one window of {self.window}")
        mel = log_mel(wave - wave.mean(), self.rate_hz, self.num_mels, self.window, self.hop, self.low_hz)
        mel = (self._fit(mel, rng) - self.mean) / self.std
        return self._mask(mel, rng)[None]

    def _fit(self, mel: Tensor, rng: Generator | None) -> Tensor:
        spare = mel.shape[1] - self.num_frames
        if spare <= 0:
            return torch.nn.functional.pad(mel, (0, -spare))
        start = int(rng.integers(spare + 1)) if self.random_crop and rng is not None else 0
        return mel[:, start : start + self.num_frames]

    def _mask(self, mel: Tensor, rng: Generator | None) -> Tensor:
        if rng is None:
            return mel
        for axis, widest in ((0, self.mask_mels), (1, self.mask_frames)):
            if widest:
                width = int(rng.integers(min(widest, mel.shape[axis]) + 1))
                mel.narrow(axis, int(rng.integers(mel.shape[axis] - width + 1)), width).zero_()
        return mel


def read_sound(data: bytes) -> tuple[Tensor, int]:
    """The mean over channels as float32 [samples] in -1..1, and the rate in Hz; raises ValueError."""
    with undecodable("sound", soundfile.LibsndfileError, RuntimeError):
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            declared, rate_hz = file.frames, file.samplerate
            wave = file.read(dtype="float32", always_2d=True)
        if not len(wave) or len(wave) < declared < _UNKNOWN_LENGTH:
            raise ValueError(f"{len(wave)} of the {declared} samples that it declares")
    return torch.from_numpy(finite(wave, "sound").mean(axis=1)), rate_hz


def log_mel(wave: Tensor, rate_hz: int, num_mels: int, window: int, hop: int, low_hz: float) -> Tensor:
    """Log-mel energies [num_mels, frames] of a wave; window and hop in samples, whole windows only (Kaldi's rule)."""
    frames = wave.unfold(0, window, hop)
    frames = frames - frames.mean(dim=1, keepdim=True)
    before = torch.cat([frames[:, :1], frames[:, :-1]], dim=1)
    shaped = (frames - _PREEMPHASIS * before) * torch.hann_window(window, periodic=False)
    size = 1 << (window - 1).bit_length()
    power = torch.fft.rfft(shaped, n=size).abs().square()
    energies = power @ mel_bank(rate_hz, num_mels, size, low_hz)
    return energies.clamp_min(torch.finfo(torch.float32).eps).log().T.contiguous()


@lru_cache(maxsize=8)
def mel_bank(rate_hz: int, num_mels: int, size: int, low_hz: float) -> Tensor:
    """Triangles [size / 2 + 1, num_mels], even on the scale 1127 ln(1 + f / 700) from low_hz to half the rate."""

    def mel(hz: Tensor) -> Tensor:
        return 1127 * torch.log1p(hz / 700)

    low, high = mel(torch.tensor([low_hz, rate_hz / 2], dtype=torch.float64)).tolist()
    edges = torch.linspace(low, high, num_mels + 2, dtype=torch.float64)
    places = mel(torch.arange(size // 2 + 1, dtype=torch.float64) * rate_hz / size)[:, None]
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    filters = torch.minimum((places - left) / (centre - left), (right - places) / (right - centre)).clamp_min(0)
    filters[-1] = 0  # Kaldi leaves the highest bin out
    return filters.float()


def resample(wave: Tensor, from_hz: int, to_hz: int) -> Tensor:
    """The wave at another rate, by a Hann-windowed sinc that keeps what both rates can hold."""
    if from_hz == to_hz:
        return wave
    kernels, step, pad = _sinc_kernels(from_hz // math.gcd(from_hz, to_hz), to_hz // math.gcd(from_hz, to_hz))
    padded = torch.nn.functional.pad(wave[None, None], (pad, pad + step))
    phases = torch.nn.functional.conv1d(padded, kernels[:, None], stride=step)[0]
    return phases.T.reshape(-1)[: math.ceil(len(wave) * to_hz / from_hz)]


@lru_cache(maxsize=8)
def _sinc_kernels(step: int, num_phases: int) -> tuple[Tensor, int, int]:
    """One filter for each of num_phases output places between two strides of `step` inputs, and their padding."""
    cutoff = 0.98 * min(1.0, num_phases / step)
    pad = math.ceil(_SINC_ZEROS / cutoff)
    places = np.arange(-pad, pad + step + 1)[None] - (np.arange(num_phases) * step / num_phases)[:, None]
    inside = np.clip(places * cutoff / _SINC_ZEROS, -1, 1)
    kernels = np.sinc(places * cutoff) * cutoff * np.cos(inside * math.pi / 2) ** 2
    return torch.from_numpy(kernels.astype(np.float32)), step, pad
