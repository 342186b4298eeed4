"""The media of published datasets: found by a pattern, checked by decoding, stored as the type that a recipe names."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modalign.data.extensions import MEDIA_EXTENSIONS, check_media_extension
from modalign.data.sources.encode import encode_array, encode_png
from modalign.data.sources.films import film_sound
from modalign.data.sources.patterns import fill
from modalign.data.sources.series import Window, cut_window
from modalign.data.sources.tables import Row, cell
from modalign.errors import ModalignError

_SAME = {"jpeg": "jpg", "tiff": "tif"}
_FILMS = ("mp4", "mov", "mkv", "webm", "avi")
_COLOURS = 3


@dataclass(frozen=True)
class Medium:
    """One medium of a sample: where its file may lie, by patterns over a row's columns, the first that exists counting.

    In a pattern's path a star stands for anything. `window` cuts a part out of a long series (columns of its start and
    end in seconds); `base64` is the column that holds the file itself; `turned_bits` says by how many bits the 16-bit
    values of a map are turned to the left (SUN RGB-D: 3).
    """

    extension: str
    patterns: tuple[str, ...] = ()
    window: Window | None = None
    base64: str | None = None
    turned_bits: int = 0

    def plan(self, row: Row) -> Any:
        """What to read for a row, as plain data; raises ValueError where the row names no file."""
        if self.base64 is not None:
            if not (content := cell(row, self.base64)):
                raise ValueError("no file named in the row")
            return [[""], content]
        places = [fill(pattern, row) for pattern in self.patterns]
        return [places, self.window.bounds(row) if self.window else None]

    def read(self, root: Path, plan: Any, check: bool = True) -> bytes:
        """The content to be stored; raises ValueError with a reason that can be counted."""
        places, more = plan
        if self.window is not None:
            return encode_array(cut_window(root, places, more, self.window), self.extension, None, None)
        if self.base64 is not None:
            content = _unpacked(more)
            found = _picture_type(content)
        else:
            path = _find(root, places)
            content, found = _bytes_of(path), path.suffix[1:].lower()
        if _SAME.get(found, found) != self.extension.rsplit(".", 1)[-1]:
            content = convert(content, found, self.extension)
        if self.turned_bits:
            content = turned(content, self.turned_bits)
        return checked(content, self.extension) if check else content


def make_medium(extension: str, declared: Any) -> Medium:
    """A medium from a recipe's pattern, list of patterns, or mapping {file, window, base64, turned_bits}."""
    check_media_extension(extension, "make.media")
    if not isinstance(declared, Mapping):
        return Medium(extension, (declared,) if isinstance(declared, str) else tuple(declared))
    known = ("file", "window", "base64", "turned_bits")
    if unknown := set(declared) - set(known):
        raise ModalignError(f"make.media.{extension}: unknown setting '{min(unknown)}': known: {', '.join(known)}")
    if ("file" in declared) == ("base64" in declared):
        raise ModalignError(f"make.media.{extension}: give either file or base64")
    files = declared.get("file", ())
    try:
        window = Window(**declared["window"]) if "window" in declared else None
    except TypeError as error:
        raise ModalignError(f"make.media.{extension}: {str(error).rpartition('__init__() ')[2]}") from error
    patterns = (files,) if isinstance(files, str) else tuple(files)
    return Medium(extension, patterns, window, declared.get("base64"), int(declared.get("turned_bits", 0)))


def _bytes_of(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"the file cannot be read ({error.strerror})") from error
    if not content:
        raise ValueError("the file is empty")
    return content


def _unpacked(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("the cell is not base64") from error


def _picture_type(content: bytes) -> str:
    return "png" if content[:4] == b"\x89PNG" else "jpg"


def _find(root: Path, places: Sequence[str]) -> Path:
    base = root.resolve()
    for place in places:
        starred = next(iter(sorted(base.glob(place))), None) if "*" in place else None
        path = (starred or base / place).resolve()
        if not path.is_relative_to(base):
            raise ValueError("the file lies outside the folder")
        if path.is_file():
            return path
    raise ValueError("the file is missing")


def convert(content: bytes, found: str, wanted: str) -> bytes:
    """Content of one type as another: any picture as JPEG or PNG, tensors and arrays as .npy, sounds (a film's too) as
    FLAC or WAV.

    Raises ValueError for content that is not what its name says. Tensors are read by torch's safe loader alone.
    """
    target = wanted.rsplit(".", 1)[-1]
    if target in ("jpg", "png"):
        return _picture(content, target)
    if target == "npy" and found in ("pt", "pth"):
        return encode_array(_cloud(_tensor(content)), target, None, None)
    if target == "npy" and found in ("npz", "csv"):
        return encode_array(_decoded("array", _read_array, content), target, None, None)
    if target in ("flac", "wav") and MEDIA_EXTENSIONS.get(found) == "sound":
        wave, rate_hz = _decoded("sound", _read_sound, content)
        return encode_array(wave, target, None, rate_hz)
    if target in ("flac", "wav") and found in _FILMS:
        wave, rate_hz = film_sound(content)
        return encode_array(wave, target, None, rate_hz)
    raise ValueError(f"a .{found} file where a .{target} is expected")


def checked(content: bytes, extension: str) -> bytes:
    """The content, known to decode (of a film, its first frame); raises ValueError for any other.

    A picture of a type that no decoder reads, such as a GIF with the name of a JPEG, is written anew.
    """
    last = extension.rsplit(".", 1)[-1]
    kind = MEDIA_EXTENSIONS[last]
    if content[:4] == b"GIF8":
        return _picture(content, last)
    if kind in _READ:
        _decoded(kind, _READ[kind], content)
    return content


def turned(content: bytes, bits: int) -> bytes:
    """A 16-bit grey PNG with the bits of its values turned back to the right; raises ValueError for any other."""
    picture = _decoded("picture", _read_picture, content)
    if not picture.mode.startswith("I"):
        raise ValueError(f"a map of mode {picture.mode} where 16-bit grey is expected")
    values = np.asarray(picture).astype(np.uint16)
    return encode_png((values >> bits) | (values << (16 - bits)))


def _decoded(kind: str, read: Callable[[bytes], Any], content: bytes) -> Any:
    """What is read; raises ValueError in the same words whatever is wrong, since reasons are counted."""
    try:
        return read(content)
    except ValueError as error:
        raise ValueError(f"the {kind} does not decode") from error


def _read_picture(content: bytes) -> Any:
    from modalign.data.decoders.image import open_picture

    return open_picture(content)


def _read_sound(content: bytes) -> tuple[np.ndarray, int]:
    from modalign.data.decoders.audio import read_sound

    return read_sound(content)


def _read_video(content: bytes) -> Any:
    from modalign.data.decoders.video import VideoDecoder

    return VideoDecoder(num_frames=1, size_px=8)(content)


def _read_array(content: bytes) -> np.ndarray:
    from modalign.data.decoders.arrays import read_array

    return read_array(content, "array")


_READ: Mapping[str, Callable[[bytes], Any]] = {
    "picture": _read_picture, "sound": _read_sound, "video": _read_video, "array": _read_array,
}  # fmt: skip


def _picture(content: bytes, target: str) -> bytes:
    from PIL import Image, UnidentifiedImageError

    file = io.BytesIO()
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")) as picture:
            picture.convert("RGB").save(file, format="JPEG" if target == "jpg" else "PNG", quality=95)
    except (OSError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError("the picture does not decode") from error
    return file.getvalue()


def _tensor(content: bytes) -> np.ndarray:
    import pickle

    import torch

    try:
        value = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, ValueError, KeyError) as error:
        raise ValueError("the tensor file is damaged or holds more than tensors") from error
    if not isinstance(value, torch.Tensor):
        raise ValueError(f"the file holds a {type(value).__name__}, not a tensor")
    return value.float().numpy()


def _cloud(values: np.ndarray) -> np.ndarray:
    """Points as rows, [points, 3 or 6], with 8-bit colours as shares of one."""
    if values.ndim == 2 and values.shape[0] in (_COLOURS, 2 * _COLOURS) and values.shape[1] > 2 * _COLOURS:
        values = values.T
    if values.ndim == 2 and values.shape[1] == 2 * _COLOURS and values[:, _COLOURS:].max(initial=0) > 1:
        values = np.concatenate([values[:, :_COLOURS], values[:, _COLOURS:] / 255], axis=1)
    return values
