"""The set of modalities that a new one joins: which encoder, projector and widths it has to fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from modalign.config.compose import compose_settings, options
from modalign.config.places import conf_folder
from modalign.config.schema import ModalitySettings, Settings
from modalign.errors import ModalignError, unknown_name

PICTURES = "modalign.data.decoders.image.ImageDecoder"


@dataclass(frozen=True, slots=True)
class Host:
    """What the modalities of a set have in common, and the settings of a model that uses the set."""

    model: str
    settings: Settings
    width: int
    encoder: str | None
    projector: str
    start: str
    rate_scale: float
    pictures: dict[str, Any] | None
    """The tokenizer of plain pictures, for other pictures to share."""


def find_host(name: str, config_dir: Path | None) -> Host:
    """The first model whose modality set is `name`, with what its modalities have in common."""
    sets = {_set_of(model): model for model in reversed(options("model"))}
    if name not in sets:
        raise unknown_name("set of modalities", name, sets, "conf/model/*.yaml (modality_set)")
    settings, _ = compose_settings([f"model={sets[name]}"], config_dir)
    modalities = list(settings.modalities.values())
    if not modalities:
        raise ModalignError(f"the set '{name}' holds no modality yet: write its first one by hand")
    widths = [m.tokenizer["width"] for m in modalities if "width" in m.tokenizer]
    starts = [m.start.source for m in modalities if m.start.source in settings.modalities]
    scales = [m.learning_rate_scale for m in modalities if m.learning_rate_scale > 1]
    return Host(
        model=sets[name], settings=settings, width=_commonest(widths),
        encoder=_commonest([m.encoder for m in modalities]), projector=_commonest([m.projector for m in modalities]),
        start=_commonest(starts) if starts else next(iter(settings.modalities)),
        rate_scale=float(median(scales)) if scales else 1.0, pictures=_pictures(modalities),
    )  # fmt: skip


def _set_of(model: str) -> str:
    content = yaml.safe_load((conf_folder() / "model" / f"{model}.yaml").read_text()) or {}
    return str(content.get("modality_set", model))


def _commonest(values: Sequence[Any]) -> Any:
    return Counter(values).most_common(1)[0][0]


def _pictures(modalities: Sequence[ModalitySettings]) -> dict[str, Any] | None:
    for modality in modalities:
        if modality.decoder.get("_target_") == PICTURES and "_target_" in modality.tokenizer:
            return dict(modality.tokenizer)
    return None
