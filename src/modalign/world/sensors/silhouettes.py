"""Flat outlines of the solids, as signed distances on a pixel grid: shared by the sensors that see pixels."""

from __future__ import annotations

import numpy as np

SIZE_PX = 48

_ROWS, _COLUMNS = np.mgrid[0:SIZE_PX, 0:SIZE_PX].astype(np.float32)


# Window: rows and columns of the picture that a thing can reach.
Window = tuple[slice, slice]
WHOLE: Window = (slice(None), slice(None))


def window_px(x_px: float, y_px: float, radius_px: float) -> Window:
    """The part of the picture that a thing of that radius can touch."""
    reach = 1.6 * radius_px + 1
    rows, columns = ((max(0, int(c - reach)), max(0, int(c + reach) + 1)) for c in (y_px, x_px))
    return slice(*rows), slice(*columns)


def local_grid(x_px: float, y_px: float, angle: float, window: Window = WHOLE) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of the window's pixels in a thing's own frame (x right, y down, px), turned by `angle` radians."""
    dx, dy = _COLUMNS[window] - np.float32(x_px), _ROWS[window] - np.float32(y_px)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return cos * dx + sin * dy, cos * dy - sin * dx


def _ball(x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    return radius - np.sqrt(x * x + y * y)


def _cube(x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    return 0.92 * radius - np.maximum(np.abs(x), np.abs(y))


def _cone(x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    y = y - 0.25 * radius
    return 0.64 * radius - np.maximum(y, 0.866 * np.abs(x) - 0.5 * y)


def _ring(x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    distance = np.sqrt(x * x + y * y)
    return np.minimum(1.06 * radius - distance, distance - 0.56 * radius)


OUTLINES = {"ball": _ball, "cube": _cube, "cone": _cone, "ring": _ring}


def signed_distance(shape: str, x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    """Pixels to the outline, positive inside, of a solid of `radius` px seen from the front."""
    return OUTLINES[shape](x, y, radius)


def _relief_ball(x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    return np.sqrt(np.maximum(1 - (x * x + y * y) / radius**2, 0))


def _relief_cube(x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    return np.full_like(x, 0.7) - 0.35 * np.maximum(x / radius - 0.25, 0)


def _relief_cone(x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    half_width = np.maximum((y / radius + 1.05) * 0.62 * radius, 0.5)
    return np.sqrt(np.maximum(1 - (x / half_width) ** 2, 0)) * half_width / radius


def _relief_ring(x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    across = (np.sqrt(x * x + y * y) / radius - 0.81) / 0.25
    return 0.25 * np.sqrt(np.maximum(1 - across * across, 0))


RELIEFS = {"ball": _relief_ball, "cube": _relief_cube, "cone": _relief_cone, "ring": _relief_ring}


def relief(shape: str, x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    """Height of the solid's surface towards the viewer, in units of its radius (about 0 to 1)."""
    return RELIEFS[shape](x, y, radius)


PLACE_OFFSETS = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1)}


def place_px(rng: np.random.Generator, place: str, offset_px: float, jitter_px: float) -> tuple[float, float]:
    """Where the middle of a thing lies: `offset_px` from the picture's middle towards the place, plus jitter."""
    dx, dy = PLACE_OFFSETS[place]
    middle = (SIZE_PX - 1) / 2
    jitter = rng.standard_normal(2) * jitter_px
    return middle + dx * offset_px + float(jitter[0]), middle + dy * offset_px + float(jitter[1])
