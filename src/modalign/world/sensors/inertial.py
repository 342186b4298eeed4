"""The inertial sensor: two seconds at 50 Hz of acceleration and rotation of a body, with gravity, bias and noise."""

from __future__ import annotations

import numpy as np

from modalign.world.difficulty import Difficulty
from modalign.world.scene import SPEEDS, Scene
from modalign.world.sensors.files import npy_bytes

RATE_HZ = 50
NUM_STEPS = 100
GRAVITY = 9.81
# By pose: which way is up in the sensor's own axes.
UP = {"upright": (0.0, 1.0, 0.0), "sideways": (1.0, 0.0, 0.0), "flat": (0.0, 0.0, 1.0)}

_TIME = np.arange(NUM_STEPS) / RATE_HZ

# Motion: acceleration along up and across it [T] in m/s², and rotation about up and across it [T] in rad/s.
Motion = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _walking(rng: np.random.Generator, level: float, strength: float) -> Motion:
    turn = 2 * np.pi * (1.5 + 1.2 * level) * _TIME + rng.uniform(0, 6.28)
    rise = strength * (2.4 * np.sin(turn) + 0.9 * np.sin(2 * turn + 0.6))
    return rise, strength * 1.1 * np.sin(turn / 2), 0.3 * np.sin(turn / 2), 0.35 * strength * np.sin(turn / 2 + 1)


def _shaking(rng: np.random.Generator, level: float, strength: float) -> Motion:
    turn = 2 * np.pi * (4.0 + 4.0 * level) * _TIME + rng.uniform(0, 6.28)
    return 0.8 * np.sin(turn + 1), strength * 6.0 * np.sin(turn), 0.4 * np.sin(turn), 1.2 * strength * np.sin(turn)


def _spinning(rng: np.random.Generator, level: float, strength: float) -> Motion:
    rate = (2.0 + 3.0 * level) * (1 if rng.random() < 0.5 else -1)
    sway = np.sin(rate * _TIME + rng.uniform(0, 6.28))
    return 0.3 * sway, 0.9 * strength * sway, np.full(NUM_STEPS, rate) + 0.2 * sway, 0.2 * strength * sway


def _jumping(rng: np.random.Generator, level: float, strength: float) -> Motion:
    phase = ((1.1 + 1.1 * level) * _TIME + rng.random()) % 1.0
    flight = np.where(phase < 0.4, -0.85 * GRAVITY, 0.0)
    landing = 17.0 * strength * np.exp(-(((phase - 0.48) / 0.06) ** 2))
    sway = 1.5 * strength * np.exp(-(((phase - 0.5) / 0.1) ** 2))
    return flight + landing, sway, 0.1 * flight / GRAVITY, 0.05 * landing


_ACTIVITIES = {"walking": _walking, "shaking": _shaking, "spinning": _spinning, "jumping": _jumping}


def series_of(scene: Scene, difficulty: Difficulty, rng: np.random.Generator) -> np.ndarray:
    """float32 [100, 6]: acceleration x, y, z in m/s² and rotation x, y, z in rad/s."""
    up = np.array(UP[scene["pose"]]) + 0.3 * difficulty.jitter * rng.standard_normal(3)
    up /= np.linalg.norm(up)
    across = np.cross(up, rng.standard_normal(3))
    across /= np.linalg.norm(across)
    level = difficulty.level(rng, SPEEDS.index(scene["speed"]), (0.0, 1.0))
    strength = float(np.exp(0.3 * difficulty.jitter * rng.standard_normal()))
    rise, sway, yaw, pitch = _ACTIVITIES[scene["activity"]](rng, level, strength)
    acceleration = np.outer(GRAVITY + rise, up) + np.outer(sway, across)
    rotation = np.outer(yaw, up) + np.outer(pitch, across)
    bias = rng.standard_normal(6) * (0.6, 0.6, 0.6, 0.15, 0.15, 0.15)
    noise = rng.standard_normal((NUM_STEPS, 6)) * (1.1, 1.1, 1.1, 0.3, 0.3, 0.3)
    return (np.concatenate([acceleration, rotation], 1) + difficulty.noise * (noise + bias)).astype(np.float32)


def render(
    scene: Scene, difficulty: Difficulty, rng: np.random.Generator, seed: int = 0, subject: str | None = None
) -> bytes:
    """.npy float32 [100, 6]."""
    return npy_bytes(series_of(scene, difficulty, rng))
