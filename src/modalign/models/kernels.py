"""Which kernels a model takes on a device, for a run's manifest: they decide last bits."""

from __future__ import annotations

import torch
from torch import nn

from modalign.models.attention import FEW_FOR_TORCH, FEW_TOKENS, FUSED, HALF, chooses, kernel_of
from modalign.models.linear import is_large, library
from modalign.models.packed_attention import PACKED
from modalign.models.packed_attention import kernel_of as packed_kernel_of
from modalign.models.parts import part_of
from modalign.models.projectors.blocks import Attention


def large_maps(model: nn.Module, device: str, dtype: torch.dtype) -> str | None:
    """The library of linear maps that are large enough to have one chosen; None where none is."""
    chosen = device == "cpu" and dtype == torch.float32 and any(is_large(module) for module in model.modules())
    return library() if chosen else None


def kernels(model: nn.Module, device: str, dtype: torch.dtype, compiles: bool = False) -> dict[str, str]:
    """What a part whose attention is chosen here takes, and the language model; products are in `dtype`.

    Within blocks that are compiled (`compiles`) it is the fused kernel.
    """
    found = {}
    chosen, of_torch = (_chosen(device, few) for few in (FEW_TOKENS, FEW_FOR_TORCH))
    compiled = f"; {FUSED} in compiled blocks" if compiles and device == "cpu" else ""
    for name, module in model.named_modules():
        if isinstance(module, Attention):
            found[part_of(name)] = (f"{chosen}, in float32" if device == "cpu" and dtype in HALF else chosen) + compiled
        elif chooses(module):
            half = module.out_proj.weight.dtype in HALF
            found[part_of(name)] = f"{FUSED if half else of_torch}; where nothing before it trains, torch's own"
    if (language_model := getattr(model, "llm", None)) is not None:
        config = language_model.model.config
        found["llm"] = config._attn_implementation
        if found["llm"] == PACKED:
            width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
            found["llm"] += f", {packed_kernel_of(torch.device(device), dtype, width)}{compiled}"
    return found


def _chosen(device: str, few: int) -> str:
    """The kernels for up to `few` tokens and for more."""
    below, beyond = (kernel_of(device, tokens, few) for tokens in (few, few + 1))
    return below if below == beyond else f"{below} up to {few} tokens, {beyond} beyond"
