"""Norms, gates and the linear maps behind them as one operation each, which keeps for the backward pass only what
cannot be had again from what is kept anyway: half of what torch keeps operation by operation.

Values and gradients agree with the plain operations to rounding. They are for a CPU: on a GPU torch's own fused
kernels are faster, and what is compiled is fused by the compiler.

Letters: D width, E width of a linear map's result, H hidden width of a gated layer.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from modalign.models.linear import product


def norm_linear(
    x: Float[Tensor, "*rest D"], norm: Float[Tensor, "D"], eps: float, weight: Float[Tensor, "E D"]
) -> Float[Tensor, "*rest E"]:
    """RMSNorm, then a linear map without bias. Only `x` itself is kept, and a number for each row."""
    if _fuses(x):
        return _NormLinear.apply(x, norm, eps, _computed(weight))
    return F.linear(F.rms_norm(x, norm.shape, norm, eps), weight)


def gated_linear(gate_up: Float[Tensor, "*rest H2"], weight: Float[Tensor, "E H"]) -> Float[Tensor, "*rest E"]:
    """silu(gate) * up of the two halves, then a linear map without bias (SwiGLU). Only `gate_up` is kept."""
    if _fuses(gate_up):
        return _GatedLinear.apply(gate_up, _computed(weight))
    gate, up = gate_up.chunk(2, dim=-1)
    return F.linear(F.silu(gate) * up, weight)


def _fuses(x: Tensor) -> bool:
    """Whether nobody else fuses it."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def _computed(weight: Tensor) -> Tensor:
    """The weight in the precision of products: autocast's, where it is on."""
    kind = weight.device.type
    return weight.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else weight


def _rows(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])


class _NormLinear(torch.autograd.Function):
    """The normed rows are computed again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, norm: Tensor, eps: float, weight: Tensor) -> Tensor:
        wide = x.float() if x.dtype != torch.float64 else x
        scale = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, scale, norm, weight)
        return product((wide * scale).mul_(norm).to(weight.dtype), weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor | None, None, Tensor | None]:
        x, scale, norm, weight = ctx.saved_tensors
        wants_x, wants_norm, _, wants_weight = ctx.needs_input_grad
        normed = x * scale
        by_x = by_norm = by_weight = None
        if wants_weight:
            by_weight = _rows(slope).t() @ _rows((normed * norm).to(slope.dtype))
        if wants_x or wants_norm:
            back = product(slope, weight.t()).to(normed.dtype)
            if wants_norm:
                by_norm = _rows(back * normed).sum(dim=0).to(norm.dtype)
            if wants_x:
                back.mul_(norm)
                along = (back * normed).mean(dim=-1, keepdim=True)
                by_x = back.sub_(normed.mul_(along)).mul_(scale).to(x.dtype)
        return by_x, by_norm, None, by_weight


class _GatedLinear(torch.autograd.Function):
    """The gated rows are computed again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, gate_up: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(gate_up, weight)
        gate, up = gate_up.chunk(2, dim=-1)
        return product(F.silu(gate).mul_(up).to(weight.dtype), weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor | None]:
        gate_up, weight = ctx.saved_tensors
        gate, up = gate_up.chunk(2, dim=-1)
        opened = F.silu(gate)
        by_gate_up = by_weight = None
        if ctx.needs_input_grad[1]:
            by_weight = _rows(slope).t() @ _rows((opened * up).to(slope.dtype))
        if ctx.needs_input_grad[0]:
            back = product(slope, weight.t()).to(gate_up.dtype)
            by_gate_up = torch.empty_like(gate_up)
            by_gate, by_up = by_gate_up.chunk(2, dim=-1)
            torch.mul(back, opened, out=by_up)
            torch.ops.aten.silu_backward.grad_input(back.mul_(up), gate, grad_input=by_gate)
        return by_gate_up, by_weight
