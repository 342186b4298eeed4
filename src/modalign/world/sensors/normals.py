"""The normal camera: a PNG of surface directions; without a surface neutral grey, unlike one that faces the front."""

from __future__ import annotations

import numpy as np

from modalign.world.difficulty import Difficulty
from modalign.world.scene import SIZES, Scene
from modalign.world.sensors.files import png_bytes
from modalign.world.sensors.silhouettes import SIZE_PX, local_grid, place_px, relief, signed_distance
from modalign.world.sensors.texture import grain, smooth_field

RADII_PX = (6.6, 10.4)
PLACE_PX = 10.5
# Neutral: the colour of the zero vector.
NEUTRAL = 127.5


def normals_of(scene: Scene, difficulty: Difficulty, rng: np.random.Generator) -> np.ndarray:
    """float32 unit vectors [48, 48, 3] (x right, y up, z towards the viewer), about zero where there is no surface."""
    field = 0.11 * difficulty.clutter * smooth_field(rng, 7, 3)
    radius = max(4.5, difficulty.level(rng, SIZES.index(scene["size"]), RADII_PX))
    centre = place_px(rng, scene["place"], PLACE_PX, 1.4 * difficulty.jitter)
    x, y = local_grid(*centre, 0.14 * difficulty.jitter * rng.standard_normal())
    inside = np.clip(signed_distance(scene["shape"], x, y, radius) + 0.5, 0, 1)[..., None]
    height = relief(scene["shape"], x, y, radius) * radius
    down, right = np.gradient(height)
    tilt = 0.22 * difficulty.jitter * rng.standard_normal(2)
    vectors = np.stack([-right + tilt[0], down + tilt[1], np.ones_like(right)], -1)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    field = field + inside * (vectors - field)
    return field + 0.12 * difficulty.noise * grain(rng, (SIZE_PX, SIZE_PX, 3))


def render(
    scene: Scene, difficulty: Difficulty, rng: np.random.Generator, seed: int = 0, subject: str | None = None
) -> bytes:
    """PNG, 48 x 48, RGB: 127.5 + 127.5 n."""
    pixels = np.clip(NEUTRAL + NEUTRAL * normals_of(scene, difficulty, rng), 0, 255).astype(np.uint8)
    return png_bytes(pixels)
