"""The attention `packed` of a language model: samples that lie in one row read themselves alone.

It goes through transformers' attention interface, so that a model's own forward stays what it is. Where nothing is
packed (generation) it is torch's fused attention.

Letters: H heads, N positions of all samples, D width of a head.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import varlen
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from modalign.errors import ModalignError
from modalign.models.attention import HALF
from modalign.models.packed_written_out import MOST_TOKENS, WIDEST, each_written_out
from modalign.models.packing import Packing

PACKED = "packed"
# A mask of four axes is taken as made, and none is looked for in the positions; packed attention needs none.
NO_MASK = (1, 1, 1, 1)
# The kernels of a packed row: torch's for sequences of many lengths, or on each sample its fused one, or the products
# written out; of short samples those of all in one operation.
VARLEN, FUSED, PLAIN = "varlen", "fused, each sample", "plain, each sample"
SHORT = f"plain up to {MOST_TOKENS} tokens, all samples together; fused beyond, each sample"
# What a layer of these kinds may read is known from its sample's length alone.
_READS = {"full_attention", "sliding_attention"}
# What some models ask of their attention besides, and torch's fused kernel cannot do.
_BEYOND = ("softcap", "s_aux", "position_bias")


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    packing: Packing | None = None,
    **settings: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each sample of a packed row [1, H, N, D], as transformers calls it."""
    if packing is None:
        if attention_mask is not None and attention_mask.shape == NO_MASK and query.shape[2] > 1:
            raise _unfit(cast(PreTrainedConfig, module.config), "its layers do not pass on what they are called with")
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **settings
        )
    if beyond := [name for name in _BEYOND if settings.get(name) is not None]:
        raise _unfit(cast(PreTrainedConfig, module.config), f"its attention has {beyond[0]}")
    window = _window(module, settings)
    dtype = _computed_in(query)
    kind = FUSED if dropout else kernel_of(query.device, dtype, query.shape[-1], window is not None)
    longest = max(packing.lengths)
    if kind == SHORT and longest <= MOST_TOKENS and (window is None or window >= longest):
        groups = query.shape[1] // key.shape[1]
        key, value = (x.repeat_interleave(groups, dim=1) if groups > 1 else x for x in (key, value))
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        return each_written_out(query.to(dtype), key.to(dtype), value.to(dtype), packing.lengths, scale), None
    if kind == VARLEN:
        return _varlen(query.to(dtype), key.to(dtype), value.to(dtype), scaling, window, packing), None
    read = []
    for q, k, v in zip(*(x.split(packing.lengths, dim=2) for x in (query, key, value)), strict=True):
        out = _plain(q, k, v, scaling, window) if kind == PLAIN else _fused(q, k, v, scaling, window, dropout)
        read.append(out.transpose(1, 2))
    return torch.cat(read, dim=1), None


def kernel_of(device: torch.device, dtype: torch.dtype, width: int, slides: bool = False) -> str:
    """Which kernel reads a packed row, by what it is given and no timing: the same whenever a run goes on.

    On a CPU torch's fused kernel is the faster for long samples in float32; for short ones, and in half precision
    (backward), plain products are.
    """
    if device.type == "cpu" and dtype == torch.float32 and width <= WIDEST and not torch.compiler.is_compiling():
        return SHORT
    if device.type != "cuda":
        return PLAIN if dtype in HALF else FUSED
    able = dtype in HALF and width % 8 == 0 and width <= 256 and torch.cuda.get_device_capability(device) >= (8, 0)
    return VARLEN if able and ("window_size" in varlen_asks() or not slides) else FUSED


def _fused(q: Tensor, k: Tensor, v: Tensor, scaling: float | None, window: int | None, dropout: float) -> Tensor:
    """Torch's kernel on one sample."""
    near = None if window is None or window >= q.shape[2] else _near(q, window)
    grouped = q.shape[1] != k.shape[1]
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=near, dropout_p=dropout, is_causal=near is None, scale=scaling, enable_gqa=grouped
    )


def _plain(q: Tensor, k: Tensor, v: Tensor, scaling: float | None, window: int | None) -> Tensor:
    """The same written out, its softmax in float32 as transformers' own."""
    if (groups := q.shape[1] // k.shape[1]) > 1:
        k, v = (x.repeat_interleave(groups, dim=1) for x in (k, v))
    scores = (q @ k.transpose(-1, -2)) * (q.shape[-1] ** -0.5 if scaling is None else scaling)
    weights = scores.masked_fill(~_near(q, window), float("-inf")).softmax(dim=-1, dtype=torch.float32)
    return weights.to(v.dtype) @ v


def _near(query: Tensor, window: int | None) -> Tensor:
    """Which positions each one reads: itself and those before it, as far back as a sliding window goes."""
    length = query.shape[2]
    places = torch.arange(length, device=query.device)
    behind = places[:, None] - places[None]
    return (behind >= 0) & (behind < (window or length))


def _varlen(
    query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None, packing: Packing
) -> Tensor:
    """All samples in one call of torch's kernel for sequences of different lengths."""
    asks = varlen_asks()
    bounded = {"window_size": (-1 if window is None else window - 1, 0)}
    options: dict[str, Any] = {"scale": scaling, **(bounded if "window_size" in asks else {"is_causal": True})}
    groups = query.shape[1] // key.shape[1]
    if groups > 1 and "enable_gqa" in asks:
        options["enable_gqa"] = True
    elif groups > 1:
        key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
    query, key, value = (x[0].transpose(0, 1) for x in (query, key, value))
    longest = max(packing.lengths)
    read = varlen.varlen_attn(query, key, value, packing.ends, packing.ends, longest, longest, **options)
    return cast(Tensor, read).unsqueeze(0)


@cache
def varlen_asks() -> frozenset[str]:
    """The names of what torch's kernel is told, which differ from one torch to the next."""
    return frozenset(inspect.signature(varlen.varlen_attn).parameters)


def _window(module: nn.Module, settings: Mapping[str, Any]) -> int | None:
    """How far back a layer reads; some models tell their attention, others only the mask that is not made here."""
    if "sliding_window" in settings:
        return settings["sliding_window"]
    kinds = getattr(module.config, "layer_types", None)
    if kinds and kinds[module.layer_idx] != "sliding_attention":
        return None
    return getattr(module.config, "sliding_window", None)


def _computed_in(query: Tensor) -> torch.dtype:
    """The dtype of attention: autocast's, where it is on."""
    kind = query.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else query.dtype


def require_packable(model: PreTrainedModel) -> None:
    """A model in which a sample would read the one before it by another way than attention: an error."""
    kinds = sorted(set(getattr(model.config, "layer_types", None) or ()) - _READS)
    if kinds:
        raise _unfit(model.config, f"it has layers of {', '.join(kinds)}")
    if not (model._supports_sdpa and model._supports_attention_backend):
        raise _unfit(model.config, "its attention does not go through transformers' interface as torch's kernel does")
    if any(isinstance(module, nn.Conv1d) for module in model.modules()):
        raise _unfit(model.config, "it has convolutions over positions")


def _unfit(config: PreTrainedConfig, reason: str) -> ModalignError:
    return ModalignError(
        f"model.language_model.attention={PACKED}: samples of a {config.model_type} cannot lie in one row, {reason}; "
        f"use attention=sdpa"
    )


def register_packed() -> None:
    """Make the name `packed` known to transformers."""
    AttentionInterface.register(PACKED, packed_attention)
    AttentionMaskInterface.register(PACKED, sdpa_mask)
