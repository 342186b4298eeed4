"""Read .npy, .npz and .csv arrays without ever unpickling."""

from __future__ import annotations

import io

import numpy as np

from modalign.data.decoders.damage import finite, undecodable

_NPY, _ZIP = b"\x93NUMPY", b"PK\x03\x04"


def read_array(data: bytes, what: str) -> np.ndarray:
    """The float32 array in an .npy file, an .npz file of one array, or a .csv of numbers; raises ValueError."""
    if data.startswith(_NPY):
        with undecodable(f"{what} (.npy)"):
            array = np.load(io.BytesIO(data), allow_pickle=False)
    elif data.startswith(_ZIP):
        array = _read_npz(data, what)
    else:
        array = _read_csv(data, what)
    return finite(array, what)


def _read_npz(data: bytes, what: str) -> np.ndarray:
    with undecodable(f"{what} (.npz)"), np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        if len(arrays.files) != 1:
            raise ValueError(f"it holds {len(arrays.files)} arrays ({', '.join(arrays.files)}), one is expected")
        return arrays[arrays.files[0]]


def _read_csv(data: bytes, what: str) -> np.ndarray:
    """Rows of numbers parted by commas, below a header line or none."""
    with undecodable(f"{what} (.csv)"):
        lines = data.decode("utf-8").splitlines()
        try:
            [float(cell) for cell in lines[0].split(",")] if lines else []
        except ValueError:
            lines = lines[1:]
        if not lines:
            raise ValueError("no rows of numbers")
        return np.loadtxt(lines, delimiter=",", ndmin=2, dtype=np.float32)
