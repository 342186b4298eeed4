"""Linear maps in float32 on a CPU by the faster of two exact libraries.

torch takes MKL, which on a processor that is not Intel's uses no more than AVX2; oneDNN, which torch has too, uses
AVX-512 there. Which one is taken depends on the processor, the precision and the size of the map alone, never on a
timing: a run that goes on computes as it did before. Values and gradients agree to rounding (experiments/speed).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.utils.flop_counter import register_flop_formula

from modalign.models.processor import is_amd_with_avx512

MKL, ONEDNN = "MKL", "oneDNN"
# Numbers in a weight from which a gain is more than what a call from Python costs.
LARGE_MAP = 1 << 17

_onednn: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
_taken: list[str] = []  # by `using`, the last one counts


def library() -> str:
    """The library for large linear maps in float32 on this machine."""
    return _taken[-1] if _taken else _of_processor()


@contextmanager
def using(name: str) -> Iterator[None]:
    """Within it, maps that are computed take this library."""
    _taken.append(name)
    try:
        yield
    finally:
        _taken.pop()


def _of_processor() -> str:
    return ONEDNN if is_amd_with_avx512() and _onednn is not None and torch.backends.mkldnn.is_available() else MKL


def by_onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether a product of these is oneDNN's to compute."""
    return (
        library() == ONEDNN
        and weight.numel() >= LARGE_MAP
        and x.dtype == weight.dtype == torch.float32
        and x.device.type == "cpu"
        and type(weight) in (Tensor, nn.Parameter)
        and x.numel() > 0
        and not torch.compiler.is_compiling()
    )


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x times the weight's transpose, by the library that it is for; for use where nothing is differentiated."""
    if by_onednn(x, weight):
        return _onednn(x.contiguous(), weight, bias, "none", [], "")
    return F.linear(x, weight, bias)


def choose_libraries(model: nn.Module) -> None:
    """Have torch's own linear modules in a model take the same library.

    Their forward is replaced in place; names of tensors stay.
    """
    for module in model.modules():
        if is_large(module):
            module.forward = _Choosing(module)  # type: ignore[method-assign, assignment]


def is_large(module: nn.Module) -> TypeGuard[nn.Linear]:
    """Whether it is a linear map of torch's own that has its library chosen."""
    return type(module) is nn.Linear and module.weight.numel() >= LARGE_MAP


class _Choosing:
    """A linear module's forward; an object, so that copies of a model get their own."""

    def __init__(self, module: nn.Linear) -> None:
        self.module = module

    def __call__(self, x: Tensor) -> Tensor:
        weight, bias = self.module.weight, self.module.bias
        if not by_onednn(x, weight) or torch.is_autocast_enabled(x.device.type):
            return F.linear(x, weight, bias)
        return _Linear.apply(x, weight, bias)


class _Linear(torch.autograd.Function):
    """The gradient of the weight is MKL's, which is the faster one there."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        wants_x, wants_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(x if wants_weight else None, weight if wants_x else None)
        return product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        rows = slope.reshape(-1, slope.shape[-1])
        by_x = None if weight is None else product(slope, weight.t())
        by_weight = None if x is None else rows.t() @ x.reshape(-1, x.shape[-1])
        return by_x, by_weight, rows.sum(dim=0) if ctx.needs_input_grad[2] else None


if _onednn is not None:

    @register_flop_formula(_onednn)
    def _flops(x: torch.Size, weight: torch.Size, *_: Any, **__: Any) -> int:
        return 2 * x.numel() * weight[0]
