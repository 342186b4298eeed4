"""Which attention kernels a model takes on a device, by part, for a run's manifest: they decide last bits."""

from __future__ import annotations

import torch
from torch import nn

from modalign.models.attention import FEW_TOKENS, FUSED, HALF, PLAIN, kernel_of
from modalign.models.packed_attention import PACKED
from modalign.models.packed_attention import kernel_of as packed_kernel_of
from modalign.models.parts import part_of
from modalign.models.projectors.blocks import Attention


def kernels(model: nn.Module, device: str, dtype: torch.dtype) -> dict[str, str]:
    """A phrase for each part that attends, computing in `dtype` (a part that is kept in half precision in its own)."""
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, Attention):
            found[part_of(name)] = _told(device, dtype, module.qkv.in_features // module.num_heads)
        elif isinstance(module, nn.MultiheadAttention):
            kept = module.out_proj.weight.dtype
            found[part_of(name)] = _told(device, kept, module.head_dim, ours=False)
    if (language_model := getattr(model, "llm", None)) is not None:
        config = language_model.model.config
        found["llm"] = config._attn_implementation
        if found["llm"] == PACKED:
            width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
            found["llm"] += f", {packed_kernel_of(torch.device(device), dtype, width)}"
    return found


def _told(device: str, dtype: torch.dtype, width: int, ours: bool = True) -> str:
    few, many = (kernel_of(device, dtype, width, tokens) for tokens in (FEW_TOKENS, FEW_TOKENS + 1))
    if not ours:  # torch's own modules have names for two of them, and the plain one in float32 alone
        few, many = (PLAIN if kind == PLAIN and dtype not in HALF else FUSED for kind in (few, many))
    return few if few == many else f"{few} up to {FEW_TOKENS} tokens, {many} beyond"
