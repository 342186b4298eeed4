"""Depth and normal maps that nobody published: derived from pictures by a depth model of transformers."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from modalign.data.sources.encode import encode_png
from modalign.data.sources.items import Dropped, Members, Unit, UnitSource
from modalign.errors import ModalignError, unknown_name
from modalign.targets import locate

_OUTPUTS = ("depth", "normal")
_MM_PER_M = 1000


class DerivedMaps:
    """Another source's pictures with a map beside each: `depth.png` (16 bit, millimetres) or `normal.png` (8 bit).

    `source` is that other source (its `_target_` and settings; `folder` is passed on to it), `picture` the member to
    look at, `keep_picture` whether it stays in the sample. `model` is a folder or a name of transformers, any model for
    depth estimation (DPT, Depth Anything …). Most say relative inverse depth: the nearest point of a picture then
    counts as near_m and the farthest as far_m; with `metric` the model's values are metres. Normals are the directions
    of the surface so found, seen by a camera of `field_of_view_deg` across: red to the right, green up, blue towards
    the viewer. Pictures are scaled down to max_px on the longer side.
    """

    def __init__(
        self,
        folder: str | Path,
        source: Mapping[str, Any],
        output: Literal["depth", "normal"] = "depth",
        model: str = "Intel/dpt-large",
        picture: str = "jpg",
        keep_picture: bool = True,
        metric: bool = False,
        near_m: float = 1.0,
        far_m: float = 10.0,
        field_of_view_deg: float = 60.0,
        batch_size: int = 16,
        device: str = "auto",
        max_px: int = 512,
    ) -> None:
        if output not in _OUTPUTS:
            raise unknown_name("output", output, _OUTPUTS, "make.output")
        if not 0 < near_m < far_m or not 0 < field_of_view_deg < 180 or batch_size < 1 or max_px < 8:
            raise ModalignError(
                f"make: near_m={near_m} < far_m={far_m}, field_of_view_deg={field_of_view_deg} in 0 … 180, "
                f"batch_size={batch_size} of 1 and max_px={max_px} of 8 at least"
            )
        self.source = _build(source, folder)
        self.output, self.model, self.picture, self.keep_picture = output, model, picture, keep_picture
        self.metric, self.near_m, self.far_m, self.field_of_view_deg = metric, near_m, far_m, field_of_view_deg
        self.batch_size, self.device, self.max_px = batch_size, device, max_px
        self._loaded: tuple[Any, Any, Any] | None = None

    def splits(self) -> list[str]:
        """Those of the other source."""
        return self.source.splits()

    def units(self, samples_per_shard: int, splits: Collection[str]) -> Iterator[Unit | Dropped]:
        """The other source's pieces; its tars are copied, since something is added to them."""
        for unit in self.source.units(samples_per_shard, splits):
            yield Unit(unit.split, unit.payload) if isinstance(unit, Unit) else unit

    def convert(self, unit: Unit) -> Iterator[tuple[str, Members] | Dropped]:
        """The other source's samples, a batch at a time, each with its map."""
        waiting: list[tuple[str, Members, Any]] = []
        for item in self.source.convert(unit):
            if isinstance(item, Dropped):
                yield item
                continue
            key, members = item
            try:
                waiting.append((key, members, self._open(members)))
            except ValueError as error:
                yield Dropped(key, str(error))
            if len(waiting) == self.batch_size:
                yield from self._derive(waiting)
                waiting = []
        yield from self._derive(waiting)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_loaded": None}

    def _open(self, members: Members) -> Any:
        from modalign.data.decoders.image import open_picture

        if self.picture not in members:
            raise ValueError(f"no .{self.picture} in it")
        picture = open_picture(members[self.picture]).convert("RGB")
        picture.thumbnail((self.max_px, self.max_px))
        if min(picture.size) < 2:
            raise ValueError("a picture too small for a map")
        return picture

    def _derive(self, waiting: Sequence[tuple[str, Members, Any]]) -> Iterator[tuple[str, Members] | Dropped]:
        if not waiting:
            return
        for (key, members, _), raw in zip(waiting, self._predict([picture for _, _, picture in waiting]), strict=True):
            if not np.isfinite(raw).all():
                yield Dropped(key, "the depth model's answer is not finite")
                continue
            depth = raw if self.metric else inverse_to_metres(raw, self.near_m, self.far_m)
            kept = dict(members) if self.keep_picture else {k: v for k, v in members.items() if k != self.picture}
            if self.output == _OUTPUTS[0]:
                content = encode_png((depth * _MM_PER_M).round().clip(1, 65535).astype(np.uint16))
            else:
                content = encode_png(normals_of(depth, self.field_of_view_deg))
            yield key, {**kept, f"{self.output}.png": content}

    def _predict(self, pictures: Sequence[Any]) -> list[np.ndarray]:
        """The model's answer for each picture, in the picture's size; pictures of one input shape go together."""
        import torch
        from torch.nn import functional

        model, processor, device = self._load()
        inputs = [processor(images=picture, return_tensors="pt")["pixel_values"] for picture in pictures]
        answers: dict[int, np.ndarray] = {}
        for shape in dict.fromkeys(values.shape for values in inputs):
            places = [place for place, values in enumerate(inputs) if values.shape == shape]
            batch = torch.cat([inputs[place] for place in places]).to(device)
            with torch.inference_mode():
                found = model(pixel_values=batch).predicted_depth.float()
            for place, answer in zip(places, found, strict=True):
                size = pictures[place].size[::-1]
                resized = functional.interpolate(answer[None, None], size, mode="bicubic", align_corners=False)
                answers[place] = resized[0, 0].cpu().numpy()
        return [answers[place] for place in range(len(pictures))]

    def _load(self) -> tuple[Any, Any, Any]:
        if self._loaded is None:
            import torch
            from transformers import AutoImageProcessor, AutoModelForDepthEstimation

            name = self.device
            if name == "auto":
                count = torch.cuda.device_count()
                name = f"cuda:{os.getpid() % count}" if count else "cpu"
            try:
                processor = AutoImageProcessor.from_pretrained(self.model)
                model = AutoModelForDepthEstimation.from_pretrained(self.model).eval().to(name)
            except (OSError, ValueError, RuntimeError) as error:
                raise ModalignError(
                    f"the depth model {self.model} cannot be loaded ({str(error).splitlines()[0]}): give a local copy "
                    f"as make.model=<folder>, or another device as make.device"
                ) from error
            self._loaded = model, processor, torch.device(name)
        return self._loaded


def inverse_to_metres(inverse: np.ndarray, near_m: float, far_m: float) -> np.ndarray:
    """Relative inverse depth [H, W] as metres: its largest value is near_m, its smallest far_m."""
    low, high = float(inverse.min()), float(inverse.max())
    share = (inverse - low) / (high - low) if high > low else np.full_like(inverse, 0.5)
    return 1 / (share / near_m + (1 - share) / far_m)


def normals_of(depth_m: np.ndarray, field_of_view_deg: float) -> np.ndarray:
    """Directions of the surface that a depth map [H, W] shows, as uint8 [H, W, 3] around 127.5."""
    height, width = depth_m.shape
    focal = 0.5 * width / math.tan(math.radians(field_of_view_deg) / 2)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float64)
    places = np.stack(
        [(columns - (width - 1) / 2) * depth_m / focal, (rows - (height - 1) / 2) * depth_m / focal, depth_m], axis=2
    )
    along, down = np.gradient(places, axis=1), np.gradient(places, axis=0)
    normals = np.cross(along, down)  # away from the viewer, since rows run downwards
    normals /= np.maximum(np.linalg.norm(normals, axis=2, keepdims=True), 1e-12)
    return np.round(127.5 * (1 + normals * (-1, 1, 1))).clip(0, 255).astype(np.uint8)


def _build(declared: Mapping[str, Any], folder: str | Path) -> UnitSource:
    settings = {**declared, "folder": folder}
    target = str(settings.pop("_target_", ""))
    factory = locate(target, "make.source")
    try:
        built = factory(**settings)
    except TypeError as error:
        raise ModalignError(f"make.source ({target}): {str(error).partition('__init__() ')[2]}") from error
    if not isinstance(built, UnitSource):
        raise ModalignError(f"make.source ({target}): maps are derived from sources that come in pieces")
    return built
