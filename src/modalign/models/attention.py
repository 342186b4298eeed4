"""Attention in which every token may read every valid one, by the fastest exact kernel for what it is given.

Which kernel that is was measured (experiments/speed) and depends on the device, the precision, the width of a head and
the number of tokens alone, never on a timing: a run that goes on computes as it did before.

Letters: N items, H heads, Q tokens that read, L tokens that are read, D width of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

# Torch's fused kernel, the same in float32, or the products written out.
FUSED, WIDE, PLAIN = "fused", "fused in float32", "plain"
HALF = (torch.bfloat16, torch.float16)
# On a CPU: up to so many tokens the fused kernel's blocks cost more than the scores that they save.
FEW_TOKENS = 64
# From this width of a head on, products in half precision are faster than float32's fused kernel.
WIDE_HEAD = 64


def kernel_of(device: str, dtype: torch.dtype, width: int, tokens: int) -> str:
    """The kernel for heads of a width that read so many tokens on a kind of device."""
    if device != "cpu":
        return FUSED
    if tokens <= FEW_TOKENS:
        return PLAIN
    if dtype in HALF:  # the fused kernel's backward pass is slow in it
        return PLAIN if width >= WIDE_HEAD else WIDE
    return FUSED


def choose_kernels(model: nn.Module) -> None:
    """Have torch's own attention modules in a model take the same kernel, where torch has a name for it.

    Their forward is replaced in place, so that a block which is computed again chooses again; names of tensors stay.
    """
    for module in model.modules():
        if isinstance(module, nn.MultiheadAttention) and module.batch_first:
            module.forward = _Choosing(module.forward)  # type: ignore[method-assign]


class _Choosing:
    """A forward of torch's attention; an object, so that copies of a model get their own."""

    def __init__(self, forward: Callable[..., Any]) -> None:
        self.forward = forward

    def __call__(self, query: Tensor, key: Tensor, *args: Any, **kwargs: Any) -> Any:
        module = cast(nn.MultiheadAttention, self.forward.__self__)  # type: ignore[attr-defined]
        plain = kernel_of(query.device.type, query.dtype, module.head_dim, key.shape[1]) == PLAIN
        if not plain or query.dtype in HALF or not torch.is_grad_enabled():
            return self.forward(query, key, *args, **kwargs)
        with sdpa_kernel(SDPBackend.MATH):
            return self.forward(query, key, *args, **kwargs)


def attend(
    query: Float[Tensor, "N H Q D"],
    key: Float[Tensor, "N H L D"],
    value: Float[Tensor, "N H L D"],
    mask: Bool[Tensor, "N 1 1 L"] | None = None,
) -> Float[Tensor, "N H Q D"]:
    """Softmax attention over the tokens that the mask allows (all, without one)."""
    if torch.is_autocast_enabled(query.device.type):
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    kernel = kernel_of(query.device.type, query.dtype, query.shape[-1], key.shape[2])
    if kernel == PLAIN:
        return _written_out(query, key, value, mask)
    if kernel == WIDE:
        with torch.autocast(query.device.type, enabled=False):
            wide = F.scaled_dot_product_attention(query.float(), key.float(), value.float(), attn_mask=mask)
        return wide.to(query.dtype)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def _written_out(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """The definition, its softmax in float32."""
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(dim=-1, dtype=torch.float32).to(value.dtype) @ value
