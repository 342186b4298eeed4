"""The scanner: a coloured point cloud of one solid, turned about the vertical, partly hidden, with strays."""

from __future__ import annotations

import numpy as np

from modalign.world.difficulty import Difficulty
from modalign.world.scene import FORMS, Scene
from modalign.world.sensors.files import npy_bytes
from modalign.world.sensors.paint import tint

NUM_POINTS = 320
# By form: log2 of the stretch along the vertical.
STRETCH_OCTAVES = (-0.75, 0.75)


def _ball(rng: np.random.Generator, count: int) -> np.ndarray:
    points = rng.standard_normal((count, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def _cube(rng: np.random.Generator, count: int) -> np.ndarray:
    points = rng.uniform(-0.8, 0.8, (count, 3))
    points[np.arange(count), rng.integers(3, size=count)] = rng.choice((-0.8, 0.8), count)
    return points


def _cone(rng: np.random.Generator, count: int) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi, count)
    radius = np.sqrt(rng.random(count))
    height = np.where(rng.random(count) < 0.7, 1 - 2 * radius, -1.0)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), height], 1)


def _ring(rng: np.random.Generator, count: int) -> np.ndarray:
    around, across = rng.uniform(0, 2 * np.pi, (2, count))
    reach = 0.8 + 0.22 * np.cos(across)
    return np.stack([reach * np.cos(around), 0.22 * np.sin(across), reach * np.sin(around)], 1)


_SOLIDS = {"ball": _ball, "cube": _cube, "cone": _cone, "ring": _ring}


def cloud_of(scene: Scene, difficulty: Difficulty, rng: np.random.Generator) -> np.ndarray:
    """float32 [320, 6]: x, y, z in metres (z up) and red, green, blue in 0..1."""
    points = _SOLIDS[scene["shape"]](rng, NUM_POINTS + NUM_POINTS // 3)
    hidden = points @ _ball(rng, 1)[0]
    points = points[np.argsort(hidden)[: NUM_POINTS + int((1 - min(1.0, 0.5 * difficulty.clutter)) * NUM_POINTS / 3)]]
    points = points[rng.permutation(len(points))[:NUM_POINTS]]
    light = 0.8 + 0.2 * points[:, 2:3] / max(np.abs(points[:, 2]).max(), 1e-6)
    points[:, 2] *= 2.0 ** difficulty.level(rng, FORMS.index(scene["form"]), STRETCH_OCTAVES)
    yaw, tilt = rng.uniform(0, 2 * np.pi), 0.12 * difficulty.jitter * rng.standard_normal()
    cos, sin = np.cos(yaw), np.sin(yaw)
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    lean = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    points = points @ (lean @ turn).T + 0.035 * difficulty.noise * rng.standard_normal(points.shape)
    stray = rng.random(NUM_POINTS) < 0.03 * difficulty.clutter
    points[stray] = rng.uniform(-1.2, 1.2, (int(stray.sum()), 3))
    points = points * 2.0 ** rng.uniform(-1, 1) + rng.standard_normal(3)
    rgb = tint(rng, scene["colour"], difficulty) * light + 22 * difficulty.noise * rng.standard_normal(points.shape)
    return np.concatenate([points, np.clip(rgb / 255, 0, 1)], 1).astype(np.float32)


def render(
    scene: Scene, difficulty: Difficulty, rng: np.random.Generator, seed: int = 0, subject: str | None = None
) -> bytes:
    """.npy float32 [320, 6]."""
    return npy_bytes(cloud_of(scene, difficulty, rng))
