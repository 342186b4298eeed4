"""One medium of a sample as W&B shows it: picture, sound, film, points in its own players, the rest as drawn here."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from modalign.evaluation.report import arrays
from modalign.evaluation.report.media import Medium, display_of, show
from modalign.evaluation.report.ply import read_vertices
from modalign.evaluation.scores import ShownSample


def shown_medium(folder: Path, sample: ShownSample, sense: str) -> Any:
    """What W&B is given for one of a sample's media; None where the sample has none, or its file is gone."""
    if sense not in sample.media:
        return None
    medium = Medium(sense, folder / sample.media[sense], sample.display.get(sense), sample.axes.get(sense, {}))
    try:
        kind = display_of(medium, medium.file.read_bytes())
        return _PLAYERS.get(kind, _drawn)(medium)
    except Exception:  # decoders raise anything on damaged bytes, and one file must not cost the table
        return _drawn(medium)


def _picture(medium: Medium) -> Any:
    import wandb

    return wandb.Image(str(medium.file))


def _video(medium: Medium) -> Any:
    import wandb

    return wandb.Video(str(medium.file), format=medium.file.suffix.removeprefix("."))  # type: ignore[arg-type]


def _audio(medium: Medium) -> Any:
    import wandb

    return wandb.Audio(str(medium.file))


def _points(medium: Medium) -> Any:
    """x, y, z and, where there are any, colours in 0..255."""
    import wandb

    data = medium.file.read_bytes()
    values = read_vertices(data) if medium.file.suffix == ".ply" else arrays.load(medium.file.name, data)
    values = np.asarray(values, dtype=np.float64)
    if values.shape[1] < 6:
        return wandb.Object3D(values[:, :3])
    scale = 255 if values[:, 3:6].max() <= 1 else 1
    return wandb.Object3D(np.concatenate([values[:, :3], np.clip(values[:, 3:6] * scale, 0, 255)], axis=1))


def _drawn(medium: Medium) -> Any:
    """The drawing of the report, with its style."""
    import wandb

    style = resources.files("modalign.evaluation.report").joinpath("style.css").read_text(encoding="utf-8")
    return wandb.Html(f"<style>{style}</style>{show(medium)}", inject=False)


_PLAYERS: dict[str, Callable[[Medium], Any]] = {
    "picture": _picture,
    "video": _video,
    "audio": _audio,
    "points": _points,
}
