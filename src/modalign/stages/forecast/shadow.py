"""A model without weights: what the settings would build, as shapes alone, whatever its size."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from modalign.config.schema import ModelSettings, Settings
from modalign.config.specs import RunSpec
from modalign.errors import ModalignError
from modalign.models.freezing import FreezableModule
from modalign.models.hub import local_file
from modalign.models.text_tokenizer import TextTokenizer
from modalign.stages.assemble import build_contrastive, build_model
from modalign.stages.forecast.shapes import empty

HALF = {"bf16-true": torch.bfloat16}  # precisions that convert every weight


def build_shadow(settings: Settings, spec: RunSpec, text_tokenizer: TextTokenizer) -> FreezableModule:
    """The model of a run on the meta device."""
    bare = settings.model_copy(update={"model": weightless(settings.model)})
    stage = spec.stage_settings or settings.stages[spec.stage]
    with torch.device("meta"):
        if stage.template == "contrast":
            encoder = str(stage.backbone).removeprefix("encoders.")
            return build_contrastive(bare, spec.seen[0], encoder, text_tokenizer)
        return build_model(bare, spec.modalities, spec.num_experts, text_tokenizer)


def weightless(model: ModelSettings) -> ModelSettings:
    """The same model by its sizes alone: no weights are read from a disk or a hub."""
    encoders = {
        name: {key: value for key, value in target.items() if key != "pretrained"}
        for name, target in model.encoders.items()
    }
    return model.model_copy(update={"encoders": encoders, "language_model": _sizes_alone(model.language_model)})


def _sizes_alone(target: Mapping[str, Any]) -> dict[str, Any]:
    """The language model's target with its architecture in the place of a name."""
    source = target.get("source")
    if not isinstance(source, str):
        return dict(target)
    kept = {key: value for key, value in target.items() if key not in ("architecture", "bits")}
    return {**kept, "source": dict(target.get("architecture") or _stated_by(source))}


def _stated_by(source: str) -> dict[str, Any]:
    """What the config.json of a local folder, or of the hub's copy on this machine, says."""
    file = local_file(source, "config.json")
    if file is None:
        raise ModalignError(
            f"the sizes of the language model '{source}' are not known here: set model.language_model.architecture to "
            f"its configuration (model_type, hidden_size, num_hidden_layers, …), or name a local folder"
        )
    return dict(json.loads(file.read_text(encoding="utf-8")))


def as_shapes(model: nn.Module, precision: str) -> None:
    """Put shapes, which can run, in the place of the model's weights; each in the precision's own dtype, if any."""
    made: dict[int, Tensor] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                if id(parameter) not in made:
                    shape = shape_like(parameter, precision)
                    made[id(parameter)] = nn.Parameter(shape, requires_grad=parameter.requires_grad)
                module._parameters[name] = made[id(parameter)]  # type: ignore[assignment]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = made.setdefault(id(buffer), shape_like(buffer, precision))


def shape_like(tensor: Tensor, precision: str) -> Tensor:
    """A tensor of the same shape without content."""
    dtype = HALF.get(precision, tensor.dtype) if tensor.is_floating_point() else tensor.dtype
    return empty(tuple(tensor.shape), dtype)
