"""Colours, lit solids and backgrounds on RGB pixels: shared by image and video."""

from __future__ import annotations

import numpy as np

from modalign.world.difficulty import Difficulty
from modalign.world.sensors.silhouettes import SIZE_PX, local_grid, relief, signed_distance, window_px
from modalign.world.sensors.texture import smooth_field

PALETTE = {
    "red": (215, 45, 40),
    "green": (45, 165, 60),
    "blue": (45, 80, 215),
    "yellow": (230, 205, 50),
    "purple": (155, 55, 185),
    "white": (232, 232, 228),
}


def tint(rng: np.random.Generator, colour: str, difficulty: Difficulty) -> np.ndarray:
    """RGB of a colour as one thing has it: the palette's, with a hue and a brightness of its own."""
    base = np.array(PALETTE[colour], np.float32)
    brightness = 1 - 0.22 * min(difficulty.jitter, 3.0) * rng.random()
    return (base + rng.standard_normal(3) * 13 * difficulty.overlap).astype(np.float32) * np.float32(brightness)


def background(rng: np.random.Generator, difficulty: Difficulty) -> np.ndarray:
    """Dim, tinted, textured canvas [48, 48, 3] with a few bars that are no things."""
    level = 50 + 28 * rng.random()
    canvas = level + 9 * difficulty.clutter * smooth_field(rng, 7, 1) + 7 * rng.standard_normal(3).astype(np.float32)
    canvas = canvas + 5 * difficulty.clutter * smooth_field(rng, 4, 3)
    for _ in range(int(rng.poisson(2.0 * difficulty.clutter))):
        top, left = rng.integers(0, SIZE_PX - 4, 2)
        height, width = (2, int(rng.integers(6, 22))) if rng.random() < 0.5 else (int(rng.integers(6, 22)), 2)
        canvas[top : top + height, left : left + width] += 26 * rng.standard_normal(3).astype(np.float32)
    return canvas


def paint_thing(
    canvas: np.ndarray, shape: str, rgb: np.ndarray, centre_px: tuple[float, float], radius_px: float, angle: float
) -> None:
    """Draws one lit solid onto the canvas in place, with softened edges."""
    window = window_px(*centre_px, radius_px)
    x, y = local_grid(*centre_px, angle, window)
    cover = np.clip(signed_distance(shape, x, y, radius_px) + 0.5, 0, 1)[..., None]
    light = (0.56 + 0.56 * relief(shape, x, y, radius_px))[..., None]
    patch = canvas[window]
    patch += cover * (rgb * light - patch)


def to_pixels(canvas: np.ndarray) -> np.ndarray:
    """The canvas as uint8 RGB."""
    return np.clip(canvas, 0, 255).astype(np.uint8)
