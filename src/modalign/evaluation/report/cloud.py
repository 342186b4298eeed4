"""Point clouds in the page: a canvas that turns when dragged, and behind it the first view, drawn already."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np

from modalign.evaluation.report.arrays import load
from modalign.evaluation.report.ply import read_vertices
from modalign.evaluation.report.tint import colours, png_url

YAW, PITCH = 0.6, 0.35
_MAX_POINTS = 4096
_VIEW_PX = 260


def points(name: str, data: bytes, axes: Mapping[str, Any]) -> str:
    """A cloud [P, 3] or [P, 6] (x, y, z with z up, then red, green, blue); without colours, height gives them."""
    values = read_vertices(data) if name.lower().endswith(".ply") else load(name, data)
    if values.ndim != 2 or values.shape[1] < 3:
        raise ValueError(f"a point cloud has three or six columns, {name} has shape {values.shape}")
    shown = values[:: -(-len(values) // _MAX_POINTS)]
    shown = shown[np.isfinite(shown).all(axis=1)]
    places = shown[:, :3] - (shown[:, :3].max(axis=0) + shown[:, :3].min(axis=0)) / 2
    places = places / (np.abs(places).max() or 1.0)
    tints = _tints(shown, places)
    packed = (places * 32767).round().astype("<i2").tobytes() + tints.tobytes()
    about = f"{len(values)} points" + (f", {len(shown)} shown" if len(shown) < len(values) else "") + "; drag to turn"
    return (
        f'<div class="points" data-cloud="{base64.b64encode(packed).decode("ascii")}" data-yaw="{YAW}" '
        f'data-pitch="{PITCH}" style="background-image:url({png_url(_view(places, tints))})"><canvas></canvas></div>'
        f'<div class="caption">{about}</div>'
    )


def _tints(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    if values.shape[1] < 6:
        return colours((places[:, 2] + 1) / 2)
    channels = values[:, 3:6]
    scale = 255 if channels.max() <= 1 else 1
    return np.clip(channels * scale, 0, 255).round().astype(np.uint8)


def _view(places: np.ndarray, tints: np.ndarray) -> np.ndarray:
    """The first view [H, W, 4], far points first, by the same projection as the script's."""
    x, y, z = places.T
    across = x * np.cos(YAW) - y * np.sin(YAW)
    away = x * np.sin(YAW) + y * np.cos(YAW)
    up = z * np.cos(PITCH) - away * np.sin(PITCH)
    depth = away * np.cos(PITCH) + z * np.sin(PITCH)
    scale = _VIEW_PX * 0.27 / (1 + 0.18 * depth)
    columns = np.clip(_VIEW_PX / 2 + across * scale, 1, _VIEW_PX - 2).astype(int)
    rows = np.clip(_VIEW_PX / 2 - up * scale, 1, _VIEW_PX - 2).astype(int)
    view = np.zeros((_VIEW_PX, _VIEW_PX, 4), np.uint8)
    for i in np.argsort(-depth):
        view[rows[i] - 1 : rows[i] + 2, columns[i] - 1 : columns[i] + 2] = (*tints[i], 255)
    return view
