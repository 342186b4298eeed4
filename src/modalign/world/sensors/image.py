"""The camera: a JPEG of one to three lit things on a cluttered ground."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from modalign.world.difficulty import Difficulty
from modalign.world.scene import COUNTS, SIZES, Scene
from modalign.world.sensors.paint import background, paint_thing, tint, to_pixels
from modalign.world.sensors.silhouettes import PLACE_OFFSETS, SIZE_PX, place_px
from modalign.world.sensors.texture import grain

RADII_PX = (5.6, 8.7)
MIN_RADIUS_PX = 4.8
PLACE_PX = 11.5
# Positions of one, two or three things along the row or column of their place, px.
ROWS_PX = ((0.0,), (-9.5, 9.5), (-15.5, 0.0, 15.5))
QUALITY = 88


def canvas_of(scene: Scene, difficulty: Difficulty, rng: np.random.Generator) -> np.ndarray:
    """RGB float canvas [48, 48, 3] of the scene, before sensor noise."""
    canvas = background(rng, difficulty)
    rgb = tint(rng, scene["colour"], difficulty)
    middle = place_px(rng, scene["place"], PLACE_PX, 1.3 * difficulty.jitter)
    along = 0 if PLACE_OFFSETS[scene["place"]][0] == 0 else 1
    radius = difficulty.level(rng, SIZES.index(scene["size"]), RADII_PX)
    for shift in ROWS_PX[COUNTS.index(scene["count"])]:
        own = rng.standard_normal(3) * difficulty.jitter
        centre = [middle[0] + 0.8 * own[0], middle[1] + 0.8 * own[1]]
        centre[along] += shift
        size = max(MIN_RADIUS_PX, radius * (1 + 0.04 * own[2]))
        paint_thing(canvas, scene["shape"], rgb, (centre[0], centre[1]), size, 0.14 * own[2])
    return canvas


def render(
    scene: Scene, difficulty: Difficulty, rng: np.random.Generator, seed: int = 0, subject: str | None = None
) -> bytes:
    """JPEG, 48 x 48, RGB."""
    canvas = canvas_of(scene, difficulty, rng)
    exposure = np.float32(1 + 0.1 * difficulty.jitter * rng.standard_normal())
    canvas = canvas * exposure + 7 * difficulty.noise * grain(rng, (SIZE_PX, SIZE_PX, 3))
    buffer = io.BytesIO()
    Image.fromarray(to_pixels(canvas)).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()
