"""LoRA through peft: small matrices beside the language model's linear maps, as a part of their own (`llm.lora`)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from torch import nn

from modalign.errors import ModalignError, unknown_name

# What peft calls the map that it puts itself around.
_BASE = ".base_layer."
ALL_LINEAR = "all-linear"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoraSettings:
    """Hu et al. 2021: W x + (alpha / rank) B A x, with A and B of `rank`; B starts at zero, so that nothing changes.

    `targets` are names of linear maps (q_proj, v_proj …), or all-linear for every one but the vocabulary head. Experts
    that transformers keeps as one tensor are no linear maps: a warning says how much has no adapter.
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    targets: str | tuple[str, ...] = ALL_LINEAR

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> LoraSettings:
        """The settings in a configuration's mapping; a name or a value that cannot be is told."""
        known = [field.name for field in fields(cls)]
        for name in given:
            if name not in known:
                raise unknown_name("setting", name, known, "model.language_model.lora")
        targets = given.get("targets", ALL_LINEAR)
        settings = cls(**{**given, "targets": targets if isinstance(targets, str) else tuple(targets)})
        if not isinstance(settings.rank, int) or settings.rank < 1 or not 0 <= settings.dropout < 1:
            raise ModalignError(
                f"model.language_model.lora: rank must be a whole number from 1 and dropout below 1, "
                f"not {settings.rank} and {settings.dropout}"
            )
        return settings


def insert_lora(model: nn.Module, settings: LoraSettings) -> None:
    """Put adapters beside the linear maps that `targets` names; a name that none of them has is told."""
    logging.getLogger("bitsandbytes").setLevel(
        logging.ERROR
    )  # which peft imports: it misses kernels that nobody asked for
    from peft import LoraConfig, inject_adapter_in_model  # most runs have none, and the import takes most of a second

    linear = {name.rsplit(".", 1)[-1] for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    named = [settings.targets] if isinstance(settings.targets, str) else list(settings.targets)
    for target in named:
        if target not in linear and named != [ALL_LINEAR]:
            raise unknown_name("linear map", target, {*linear, ALL_LINEAR}, "model.language_model.lora.targets")
    if beside := _not_linear(model):
        log.warning(
            "model.language_model.lora: adapters stand beside linear maps, and %s of the %s weights are in none "
            "(experts that transformers keeps as one tensor): they stay as they are",
            f"{beside:,}",
            f"{_size(model):,}",
        )
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]
        lora_dropout=settings.dropout,
        target_modules=ALL_LINEAR if named == [ALL_LINEAR] else named,
    )
    inject_adapter_in_model(config, model)


def _not_linear(model: nn.Module) -> int:
    """Weights of experts in tensors of three axes, which are no linear map of torch."""
    return sum(p.numel() for name, p in model.named_parameters() if p.ndim == 3 and "expert" in name)


def _size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def hide_base_layers(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    """State-dict hook: a weight is called what it was called before an adapter was put around it."""
    own = [name for name in state if name.startswith(prefix)]
    if any(_BASE in name for name in own):
        for name in own:
            state[name.replace(_BASE, ".")] = state.pop(name)


def restore_base_layers(module: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    """Load-state hook: the inverse of `hide_base_layers`."""
    wrapped = [f"{prefix}{name}." for name, child in module.named_modules() if hasattr(child, "base_layer")]
    for name in list(state):
        place = next((place for place in wrapped if name.startswith(place)), None)
        # An adapter's own tensors lie where they belong.
        if place is not None and not name.removeprefix(place).startswith("lora_"):
            state[f"{place.rstrip('.')}{_BASE}{name.removeprefix(place)}"] = state.pop(name)
