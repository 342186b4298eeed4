"""The model of a configuration without its weights and on no device: which parts it has, and how large they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from modalign.config.schema import Settings
from modalign.models.aligned import AlignedModel
from modalign.models.pretrained import architecture_of
from modalign.stages.assemble import build_model


def skeleton(
    settings: Settings, modalities: Sequence[str], num_experts: int | None = None, adapters: bool = False
) -> AlignedModel:
    """The aligned model on torch's meta device: tensors have shapes and no memory; nothing is read or fetched."""
    with torch.device("meta"):
        return build_model(without_weights(settings), modalities, num_experts, None, adapters)


def without_weights(settings: Settings) -> Settings:
    """The same model with fresh weights: encoders by architecture alone, the language model by its configuration."""
    encoders = {
        name: {key: value for key, value in target.items() if key != "pretrained"}
        for name, target in settings.model.encoders.items()
    }
    changes: dict[str, Any] = {"encoders": encoders}
    language_model = dict(settings.model.language_model)
    source = language_model.get("source")
    if isinstance(source, str):
        stated = language_model.pop("architecture", None)
        language_model.pop("bits", None)
        changes["language_model"] = language_model | {"source": architecture_of(source, stated)}
    return settings.model_copy(update={"model": settings.model.model_copy(update=changes)})
