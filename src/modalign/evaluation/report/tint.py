"""Numbers as colours and pictures: two colour maps, a PNG of an array, and the scale that explains it."""

from __future__ import annotations

import base64
import io

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from modalign.evaluation.report.page import text

Stops = tuple[tuple[int, int, int], ...]

# Nine stops of matplotlib's viridis (public domain), and a blue-white-red that crosses at the middle.
SEQUENTIAL: Stops = (
    (68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141), (39, 173, 129), (92, 200, 99),
    (170, 220, 50), (253, 231, 37),
)  # fmt: skip
DIVERGING: Stops = (
    (33, 74, 160), (103, 149, 214), (190, 212, 240), (247, 247, 247), (247, 200, 184), (222, 120, 96), (160, 28, 40),
)  # fmt: skip


def colours(shares: Float[np.ndarray, "*S"], stops: Stops = SEQUENTIAL) -> UInt8[np.ndarray, "*S 3"]:
    """Values in 0..1 as colours; what is outside takes the end's colour, NaN the first."""
    table = np.asarray(stops, dtype=np.float64)
    places = np.clip(np.nan_to_num(shares), 0, 1) * (len(table) - 1)
    channels = [np.interp(places, np.arange(len(table)), table[:, c]) for c in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def ramp(low: str, high: str, stops: Stops = SEQUENTIAL) -> str:
    """The scale of a coloured picture, as HTML: what the two ends stand for."""
    gradient = ", ".join(f"rgb({r},{g},{b})" for r, g, b in stops)
    bar = f'<span class="ramp" style="background:linear-gradient(90deg, {gradient})"></span>'
    return f'<div class="scale"><span>{text(low)}</span>{bar}<span>{text(high)}</span></div>'


def png_url(pixels: UInt8[np.ndarray, "H W 3"]) -> str:
    """An 8-bit picture as a data URL."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="PNG", optimize=True)
    return data_url(buffer.getvalue(), "image/png")


def data_url(data: bytes, mime: str) -> str:
    """Bytes as a URL that holds them."""
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"
