"""Attention in which every token may read every valid one, by the faster exact kernel for what it is given.

Which kernel that is was measured (experiments/speed) and depends on the device, the precision and the number of tokens
alone, never on a timing: a run that goes on computes as it did before.

Letters: N items, H heads, Q tokens that read, L tokens that are read, D width of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeGuard

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from modalign.models.written_out import written_out

# Torch's fused kernel, or the products written out.
FUSED, PLAIN = "fused", "plain"
HALF = (torch.bfloat16, torch.float16)
# On a CPU: up to so many tokens the fused kernel's many small products cost more than the scores that they save.
FEW_TOKENS = 256
# The same for torch's own plain attention, which computes all heads at once and keeps every step.
FEW_FOR_TORCH = 64


def kernel_of(device: str, tokens: int, few: int = FEW_TOKENS) -> str:
    """The kernel on a kind of device for so many tokens that are read."""
    return PLAIN if device == "cpu" and tokens <= few else FUSED


def choose_kernels(model: nn.Module) -> None:
    """Have torch's own attention modules in a model take the same kernel, where torch has a name for it.

    Their forward is replaced in place, so that a block which is computed again chooses again; names of tensors stay.
    """
    for module in model.modules():
        if isinstance(module, nn.MultiheadAttention) and module.batch_first:
            module.forward = _Choosing(module.forward)  # type: ignore[method-assign]


def chooses(module: nn.Module) -> TypeGuard[nn.MultiheadAttention]:
    """Whether it is one of those."""
    return isinstance(module.forward, _Choosing)


class _Choosing:
    """A forward of torch's attention; an object, so that copies of a model get their own."""

    def __init__(self, forward: Callable[..., Any]) -> None:
        self.forward = forward

    def __call__(self, query: Tensor, key: Tensor, *args: Any, **kwargs: Any) -> Any:
        plain = kernel_of(query.device.type, key.shape[1], FEW_FOR_TORCH) == PLAIN
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
    kind = query.device.type
    if torch.is_autocast_enabled(kind):
        query, key, value = (x.to(torch.get_autocast_dtype(kind)) for x in (query, key, value))
    dtype = query.dtype
    if kind == "cpu" and dtype in HALF:  # torch's kernel is slow backwards in it, and float32 loses nothing
        query, key, value = query.float(), key.float(), value.float()
    with torch.autocast(kind, enabled=False):
        if kernel_of(kind, key.shape[2]) == PLAIN and not torch.compiler.is_compiling():
            return written_out(query, key, value, mask).to(dtype)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask).to(dtype)
