"""A model without weights: what the settings would build, as shapes alone, whatever its size."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modalign.config.schema import Settings
from modalign.config.specs import RunSpec
from modalign.models.freezing import FreezableModule
from modalign.models.text_tokenizer import TextTokenizer
from modalign.stages.assemble import build_contrastive, build_model
from modalign.stages.forecast.shapes import empty
from modalign.stages.skeleton import without_weights


def build_shadow(settings: Settings, spec: RunSpec, text_tokenizer: TextTokenizer) -> FreezableModule:
    """The model of a run on the meta device."""
    bare = without_weights(settings)
    stage = spec.stage_settings or settings.stages[spec.stage]
    with torch.device("meta"):
        if stage.template == "contrast":
            encoder = str(stage.backbone).removeprefix("encoders.")
            return build_contrastive(bare, spec.seen[0], encoder, text_tokenizer)
        return build_model(bare, spec.modalities, spec.num_experts, text_tokenizer, spec.adapters)


def as_shapes(model: nn.Module) -> None:
    """Put shapes, which can run, in the place of the model's weights."""
    made: dict[int, Tensor] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                if id(parameter) not in made:
                    shape = shape_like(parameter)
                    made[id(parameter)] = nn.Parameter(shape, requires_grad=parameter.requires_grad)
                module._parameters[name] = made[id(parameter)]  # type: ignore[assignment]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = made.setdefault(id(buffer), shape_like(buffer))


def shape_like(tensor: Tensor) -> Tensor:
    """A tensor of the same shape without content."""
    return empty(tuple(tensor.shape), tensor.dtype)
