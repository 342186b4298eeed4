"""The range camera: a 16-bit PNG of millimetres, a solid before a slanted wall, with missing returns."""

from __future__ import annotations

import numpy as np

from modalign.world.difficulty import Difficulty
from modalign.world.scene import DISTANCES, Scene
from modalign.world.sensors.files import png_bytes
from modalign.world.sensors.silhouettes import SIZE_PX, local_grid, place_px, relief, signed_distance
from modalign.world.sensors.texture import grain, smooth_field

DISTANCES_M = (1.0, 2.2)
WALL_M = 3.4
MAX_M = 4.0
PLACE_PX = 11.0


def depth_of(scene: Scene, difficulty: Difficulty, rng: np.random.Generator) -> np.ndarray:
    """float32 metres [48, 48]; 0 where nothing came back."""
    slope = 0.25 * difficulty.jitter * rng.standard_normal(2)
    ramp = np.linspace(-0.5, 0.5, SIZE_PX, dtype=np.float32)
    metres = WALL_M + slope[0] * ramp[:, None] + slope[1] * ramp[None, :] + 0.1 * rng.standard_normal()
    metres = metres + 0.06 * difficulty.clutter * smooth_field(rng, 7, 1)[..., 0]
    for _ in range(int(rng.poisson(1.2 * difficulty.clutter))):
        top, left = rng.integers(0, SIZE_PX - 6, 2)
        height, width = rng.integers(4, 14, 2)
        metres[top : top + height, left : left + width] -= 0.35 * rng.random()
    distance = difficulty.level(rng, DISTANCES.index(scene["distance"]), DISTANCES_M)
    radius = 9.0 + 1.1 * difficulty.jitter * float(np.clip(rng.standard_normal(), -2, 2))
    centre = place_px(rng, scene["place"], PLACE_PX, 1.5 * difficulty.jitter)
    x, y = local_grid(*centre, 0.14 * difficulty.jitter * rng.standard_normal())
    inside = signed_distance(scene["shape"], x, y, radius) > 0
    metres = np.where(inside, distance - 0.3 * relief(scene["shape"], x, y, radius), metres)
    metres = metres * (1 + 0.012 * difficulty.noise * grain(rng, metres.shape))
    lost = rng.random(metres.shape, dtype=np.float32) < 0.015 * difficulty.noise
    return np.where(lost, 0, np.clip(metres, 0.1, MAX_M)).astype(np.float32)


def render(
    scene: Scene, difficulty: Difficulty, rng: np.random.Generator, seed: int = 0, subject: str | None = None
) -> bytes:
    """PNG, 48 x 48, 16 bit, millimetres."""
    millimetres = (depth_of(scene, difficulty, rng) * 1000).astype(np.uint16)
    return png_bytes(millimetres)
