"""The microphone: FLAC, one second at 8 kHz, of a sound that is heard once to thrice over a noise floor."""

from __future__ import annotations

import io

import numpy as np
import soundfile

from modalign.world.difficulty import Difficulty
from modalign.world.scene import LOUDNESSES, PITCHES, RHYTHMS, Scene
from modalign.world.sensors.texture import grain

RATE_HZ = 8000
NUM_SAMPLES = 8000
# By timbre: the low pitch, Hz; the high one lies PITCH_OCTAVES above.
LOW_HZ = {"bell": 330.0, "buzz": 110.0, "whistle": 620.0, "hiss": 700.0, "drum": 70.0}
PITCH_OCTAVES = (0.0, 1.5)
LEVELS_DB = (-22.0, -9.0)
FLOOR_DB = -46.0
# By rhythm: seconds between beats.
GAPS_S = (0.0, 0.42, 0.28)
BEAT_S = 0.22

_TIME = np.arange(int(BEAT_S * RATE_HZ), dtype=np.float32) / RATE_HZ
_WHOLE = np.arange(NUM_SAMPLES, dtype=np.float32) / RATE_HZ


def _bell(pitch_hz: float, rng: np.random.Generator) -> np.ndarray:
    partials = [(1.0, 1.0, 9.0), (0.6, 2.76, 14.0), (0.35, 4.1, 20.0)]
    waves = (a * np.exp(-d * _TIME) * np.sin(2 * np.pi * pitch_hz * r * _TIME + rng.random()) for a, r, d in partials)
    return sum(waves, np.zeros_like(_TIME))


def _buzz(pitch_hz: float, rng: np.random.Generator) -> np.ndarray:
    phase = pitch_hz * _TIME + np.float32(rng.random())
    saw = 2 * (phase - np.floor(phase)) - 1
    return saw * (0.75 + 0.25 * np.sin(2 * np.pi * 30 * _TIME))


def _whistle(pitch_hz: float, rng: np.random.Generator) -> np.ndarray:
    wobble = 0.02 * np.sin(2 * np.pi * 9 * _TIME + 6.28 * rng.random())
    return np.sin(2 * np.pi * pitch_hz * np.cumsum(1 + wobble) / RATE_HZ)


def _hiss(pitch_hz: float, rng: np.random.Generator) -> np.ndarray:
    spectrum = np.fft.rfft(rng.standard_normal(len(_TIME)))
    frequency = np.fft.rfftfreq(len(_TIME), 1 / RATE_HZ)
    band = np.exp(-0.5 * (np.log2(np.maximum(frequency, 1) / pitch_hz) / 0.4) ** 2)
    return np.fft.irfft(spectrum * band, len(_TIME))


def _drum(pitch_hz: float, rng: np.random.Generator) -> np.ndarray:
    fall = pitch_hz * (1 + 2.2 * np.exp(-35 * _TIME))
    skin = np.sin(2 * np.pi * np.cumsum(fall) / RATE_HZ) * np.exp(-16 * _TIME)
    return skin + 0.5 * np.exp(-220 * _TIME) * rng.standard_normal(len(_TIME))


_SOUNDS = {"bell": _bell, "buzz": _buzz, "whistle": _whistle, "hiss": _hiss, "drum": _drum}
_EDGE = np.minimum(1, np.minimum(_TIME, _TIME[-1] - _TIME) / 0.008)


def waveform_of(scene: Scene, difficulty: Difficulty, rng: np.random.Generator) -> np.ndarray:
    """float32 samples [8000] in -1..1."""
    octave = difficulty.level(rng, PITCHES.index(scene["pitch"]), PITCH_OCTAVES)
    pitch_hz = LOW_HZ[scene["timbre"]] * 2.0**octave
    level_db = difficulty.level(rng, LOUDNESSES.index(scene["loudness"]), LEVELS_DB)
    beats = RHYTHMS.index(scene["rhythm"])
    gap_s = GAPS_S[beats] * (1 + 0.05 * difficulty.jitter * rng.standard_normal())
    start_s = rng.uniform(0.02, max(0.04, 0.76 - gap_s * beats))
    wave = np.zeros(NUM_SAMPLES, np.float32)
    for beat in range(beats + 1):
        sound = _SOUNDS[scene["timbre"]](pitch_hz, rng) * _EDGE
        sound *= 10 ** ((level_db + difficulty.jitter * rng.standard_normal()) / 20) / max(np.abs(sound).max(), 1e-6)
        start = int(np.clip((start_s + beat * gap_s), 0, 0.77) * RATE_HZ)
        wave[start : start + len(sound)] += sound
    floor = 10 ** (FLOOR_DB / 20) * difficulty.noise * 10 ** (0.2 * rng.standard_normal())
    wave += floor * grain(rng, (NUM_SAMPLES,))
    if difficulty.clutter:
        hum_hz = rng.uniform(45, 70)
        phase = 2 * np.pi * (hum_hz * _WHOLE + rng.random())
        wave += 2 * floor * difficulty.clutter * np.sin(phase)
    return np.clip(wave, -1, 1).astype(np.float32)


def render(
    scene: Scene, difficulty: Difficulty, rng: np.random.Generator, seed: int = 0, subject: str | None = None
) -> bytes:
    """FLAC, 16 bit, mono, 8 kHz, one second."""
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform_of(scene, difficulty, rng), RATE_HZ, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()
