"""A language model of transformers by name, by local folder, or from scratch; wrong sizes and lost tensors are told."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    PreTrainedConfig,
    PreTrainedModel,
)

from modalign.errors import ModalignError, unknown_name
from modalign.models.hub import LONGEST, require_folder, telling_hub

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
KEY = "model.language_model.source"


def dtype_of(name: str, where: str) -> torch.dtype:
    """The dtype of a name in the configuration."""
    if name not in DTYPES:
        raise unknown_name("dtype", name, DTYPES, where)
    return DTYPES[name]


def from_scratch(config: Mapping[str, Any], dtype: torch.dtype, attention: str) -> PreTrainedModel:
    """Fresh weights by a configuration with its `model_type`."""
    try:
        return AutoModelForCausalLM.from_config(_config(config), dtype=dtype, attn_implementation=attention)
    except (ValueError, ImportError) as error:
        told = " ".join(str(error).split())
        raise ModalignError(f"model.language_model (attention={attention}): {told[:LONGEST]}") from error


def load_weights(
    source: str, dtype: torch.dtype, attention: str, architecture: Mapping[str, Any] | None, bits: int | None
) -> PreTrainedModel:
    """The weights of a local folder, or of a repository on the hub, whose sizes must be those of `architecture`.

    With `bits` the linear maps are kept in 8 or 4 bits (bitsandbytes); they cannot train.
    """
    require_folder("the language model", source, KEY)
    local = Path(source).is_dir()
    options: dict[str, Any] = {"dtype": dtype, "attn_implementation": attention, "local_files_only": local}
    if bits is not None:
        options |= {"quantization_config": _quantization(bits, dtype), "device_map": {"": _device()}}
    with telling_hub("the language model", source, KEY):
        config = AutoConfig.from_pretrained(source, local_files_only=local).get_text_config()
        if architecture is not None:
            _require_sizes(source, config, architecture)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source, ignore_mismatched_sizes=True, output_loading_info=True, **options
        )
    model, report = loaded
    _require_whole(source, report)
    for module in model.modules():
        # On some CPUs bitsandbytes packs weights in four bits anew where nothing trains: they would not stay as read.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def architecture_of(source: str, stated: Mapping[str, Any] | None) -> dict[str, Any]:
    """A language model's configuration without its weights: of its folder, else as stated, else of the hub's cache.

    Nothing is fetched; ModalignError where nobody here knows it.
    """
    if stated is not None and not Path(source).is_dir():
        return dict(stated)
    require_folder("the language model", source, KEY)
    with telling_hub("the language model's configuration", source, KEY):
        config = AutoConfig.from_pretrained(source, local_files_only=True).get_text_config()
    if stated is not None:
        _require_sizes(source, config, stated)
    return config.to_dict()


def _config(config: Mapping[str, Any]) -> PreTrainedConfig:
    if "model_type" not in config:
        raise ModalignError("a language model from scratch needs its model_type (llama, qwen2, …) in its configuration")
    settings = {key: value for key, value in config.items() if key != "model_type"}
    try:
        return AutoConfig.for_model(config["model_type"], **settings)
    except Exception as error:  # each kind of model checks its sizes in its own way
        if config["model_type"] not in CONFIG_MAPPING:
            told = f"transformers knows no language model of type '{config['model_type']}'"
            raise ModalignError(told) from error
        raise ModalignError(f"model.language_model.source: {' '.join(str(error).split())[:LONGEST]}") from error


def _require_sizes(source: str, config: PreTrainedConfig, architecture: Mapping[str, Any]) -> None:
    """What the configuration was planned with must be what is there: widths, layers, vocabulary."""
    for key, stated in architecture.items():
        found = getattr(config, key, stated)
        if isinstance(stated, int | str) and found != stated:
            raise ModalignError(
                f"the language model '{source}' has {key} {found}, but model.language_model.architecture says "
                f"{stated}: choose the model/language_model that fits it, or set model.language_model.architecture=null"
            )


def _require_whole(source: str, report: Mapping[str, Any]) -> None:
    """transformers fills what a checkpoint lacks, or has in another shape, with random numbers: an error here."""
    for name, there, wanted in sorted(report["mismatched_keys"]):
        raise ModalignError(
            f"the language model '{source}': tensor {name} has shape {tuple(there)}, its config.json asks for "
            f"{tuple(wanted)}: these are the weights of another width"
        )
    if missing := sorted(report["missing_keys"]):
        raise ModalignError(f"the language model '{source}' lacks {len(missing)} tensors, the first is {missing[0]}")


def _quantization(bits: int, dtype: torch.dtype) -> BitsAndBytesConfig:
    if bits not in (8, 4):
        raise ModalignError(f"model.language_model.bits={bits}: 8 or 4, or null for the weights as they are")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModalignError(
            f"model.language_model.bits={bits} needs bitsandbytes, which is not installed: "
            f"pip install 'modalign[quantized]', or bits=null"
        )
    if bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)


def _device() -> str:
    """Where quantised weights are made: on this process's accelerator, since they are not always movable later."""
    if not torch.cuda.is_available():
        return "cpu"
    local = os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or torch.cuda.current_device()
    return f"cuda:{local}"
