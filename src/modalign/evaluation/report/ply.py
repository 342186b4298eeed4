"""The vertices of a .ply file, for the report alone: ASCII or binary, with scalar properties and vertices first."""

from __future__ import annotations

import numpy as np

_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
    "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4",
    "float32": "f4", "float64": "f8",
}  # fmt: skip
_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": ""}


def read_vertices(data: bytes) -> np.ndarray:
    """x, y, z and, where they are there, red, green, blue of each vertex, [P, 3] or [P, 6] float64; else ValueError."""
    head, mark, body = data.partition(b"end_header\n")
    lines = head.decode("ascii", errors="replace").split("\n")
    if lines[0].strip() != "ply" or not mark:
        raise ValueError("this is no .ply file: it has no header")
    encoding, num_points, fields = _header([line.split() for line in lines if line.strip()])
    if encoding == "ascii":
        rows = np.array(body.split()[: num_points * len(fields)], dtype=np.float64).reshape(num_points, len(fields))
        columns = {name: rows[:, i] for i, (name, _) in enumerate(fields)}
    else:
        table = np.frombuffer(body, np.dtype([(n, _ORDERS[encoding] + kind) for n, kind in fields]), count=num_points)
        columns = {name: table[name].astype(np.float64) for name, _ in fields}
    wanted = ["x", "y", "z", *(n for n in ("red", "green", "blue") if n in columns)]
    return np.stack([columns[name] for name in wanted], axis=1)


def _header(lines: list[list[str]]) -> tuple[str, int, list[tuple[str, str]]]:
    """The encoding, the number of vertices, and their properties in order."""
    encoding = next((words[1] for words in lines if words[0] == "format"), "")
    elements = [words for words in lines if words[0] == "element"]
    if encoding not in _ORDERS or not elements or elements[0][1] != "vertex":
        raise ValueError(f"a .ply of format '{encoding}' whose first element is not 'vertex' is not read")
    start = lines.index(elements[0])
    end = lines.index(elements[1]) if len(elements) > 1 else len(lines)
    fields = [(words[-1], _TYPES[words[1]]) for words in lines[start:end] if words[0] == "property"]
    return encoding, int(elements[0][2]), fields
