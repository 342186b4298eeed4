"""Coloured point clouds: positions centred and scaled to the unit ball, colours in 0..1."""

from __future__ import annotations

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from modalign.data.decoders.arrays import read_array
from modalign.data.decoders.damage import finite, undecodable
from modalign.data.decoders.settings import check_above_zero, check_counts

_PLY_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip
_PLY_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": "="}
ROUNDING = 1e-3  # a colour may lie this far outside 0..1, as resampling and other scales leave it


class PointDecoder:
    """A cloud as [num_points, 6]: x, y, z in the unit ball, then red, green, blue in 0..1 (zero where it has none).

    Reads .npy and .npz of [P, 3] or [P, 6] (colours divided by `colour_scale`) and .ply, ascii or binary. A cloud of
    more points is subsampled, by a generator at random or else evenly; one of fewer repeats its points.
    """

    def __init__(self, num_points: int, colour_scale: float = 1.0, centre: bool = True) -> None:
        check_counts("PointDecoder", num_points=num_points)
        check_above_zero("PointDecoder", colour_scale=colour_scale)
        self.num_points, self.colour_scale, self.centre = num_points, colour_scale, centre

    @property
    def shape(self) -> tuple[int, ...]:
        """What every file becomes."""
        return self.num_points, 6

    def __call__(self, data: bytes, rng: Generator | None = None) -> Tensor:
        """Decode; raises ValueError for bytes that are no cloud."""
        if data.startswith(b"ply"):
            with undecodable("point cloud (.ply)"):
                cloud = _read_ply(data)
        else:
            cloud = read_array(data, "point cloud")
            if cloud.ndim != 2 or cloud.shape[1] not in (3, 6) or not len(cloud):
                raise ValueError(f"a point cloud must be [points, 3 or 6], not {list(cloud.shape)}")
            cloud[:, 3:] /= self.colour_scale
        colours = cloud[:, 3:] if cloud.shape[1] == 6 else np.zeros((len(cloud), 3), np.float32)
        if colours.min() < -ROUNDING or colours.max() > 1 + ROUNDING:
            raise ValueError(f"colours reach from {colours.min():g} to {colours.max():g}, not 0 to 1: set colour_scale")
        cloud = np.concatenate([self._normalise(cloud[:, :3]), colours.clip(0, 1)], axis=1)
        return torch.from_numpy(cloud[self._subset(len(cloud), rng)])

    def _normalise(self, places: np.ndarray) -> np.ndarray:
        if not self.centre:
            return places
        places = places - places.mean(axis=0)
        return places / max(float(np.linalg.norm(places, axis=1).max()), 1e-9)

    def _subset(self, count: int, rng: Generator | None) -> np.ndarray:
        if count < self.num_points:
            return np.arange(self.num_points) % count
        if rng is None:
            return np.arange(self.num_points) * count // self.num_points
        return rng.choice(count, self.num_points, replace=False)


def _read_ply(data: bytes) -> np.ndarray:
    """The vertices of a .ply as [P, 3] or [P, 6]; 8-bit colours are divided by 255."""
    head, found, body = data.partition(b"end_header\n")
    if not found:
        head, found, body = data.partition(b"end_header\r\n")
    if not found:
        raise ValueError("its header does not end")
    encoding, count, fields = _ply_header(head.decode("ascii"))
    kind = np.dtype([(name, _PLY_ORDERS[encoding] + code) for name, code in fields])
    if encoding == "ascii":
        rows = [tuple(line.split()) for line in body.decode("ascii").splitlines()[:count]]
        vertices = np.array(rows, dtype=kind)
    else:
        vertices = np.frombuffer(body, dtype=kind, count=count)
    if len(vertices) < count:
        raise ValueError(f"{len(vertices)} of the {count} points that it declares")
    columns = [vertices[axis] for axis in ("x", "y", "z")]
    if "red" in (kind.names or ()):
        divisor = 255 if kind["red"] == np.dtype("u1") else 1
        columns += [vertices[colour] / np.float32(divisor) for colour in ("red", "green", "blue")]
    return finite(np.stack(columns, axis=1), "point cloud")


def _ply_header(head: str) -> tuple[str, int, list[tuple[str, str]]]:
    """Encoding, number of vertices, and (name, type) of each property of a vertex, which must come first."""
    encoding, count, fields, element = "", 0, [], ""
    for words in (line.split() for line in head.splitlines()):
        if words[:1] == ["format"]:
            encoding = words[1]
        elif words[:1] == ["element"]:
            if not element and words[1] != "vertex":
                raise ValueError(f"its first element is '{words[1]}', not vertex")
            element, count = words[1], int(words[2]) if words[1] == "vertex" else count
        elif words[:1] == ["property"] and element == "vertex":
            fields.append((words[2], _PLY_TYPES[words[1]]))
    if encoding not in _PLY_ORDERS or count < 1:
        raise ValueError(f"format '{encoding}' with {count} vertices")
    return encoding, count, fields
