"""Tensors that are shapes alone: they run every operation on torch's meta device and call themselves CPU tensors.

Unlike plain meta tensors they mix with real ones, so that what decides how a step goes on (the indices of a batch,
lengths, places of labels) keeps its values while weights and activations, however large, have none. torch's own fake
tensors do the same ten times slower.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

CPU, META = torch.device("cpu"), torch.device("meta")


class ShapeTensor(Tensor):
    """A tensor without content; `meta` is the same on the meta device, whose storage counts the bytes."""

    meta: Tensor

    @staticmethod
    def __new__(cls: type[ShapeTensor], meta: Tensor) -> ShapeTensor:
        """A wrapper without bytes of its own."""
        return torch.Tensor._make_wrapper_subclass(
            cls, meta.size(), strides=meta.stride(), storage_offset=meta.storage_offset(), dtype=meta.dtype,
            layout=meta.layout, device=CPU,
        )  # fmt: skip

    def __init__(self, meta: Tensor) -> None:
        self.meta = meta

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"ShapeTensor({tuple(self.shape)}, {self.dtype})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation on the meta device; what it changes in place stays the tensor that it was."""
        given: dict[int, Tensor] = {}
        bare = {key: _bare(value, given) for key, value in (kwargs or {}).items()}
        if bare.get("device") is not None:
            bare["device"] = META
        return _dressed(func(*(_bare(value, given) for value in args), **bare), given)


# Nothing is to be done above the dispatcher; this one torch passes over without a call.
ShapeTensor.__torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment,method-assign]


def empty(shape: tuple[int, ...], dtype: torch.dtype) -> ShapeTensor:
    """A new tensor without content."""
    return ShapeTensor(torch.empty(shape, dtype=dtype, device=META))


def storage_of(tensor: Tensor) -> torch.UntypedStorage:
    """What holds the tensor's bytes, or would."""
    return (tensor.meta if isinstance(tensor, ShapeTensor) else tensor).untyped_storage()


def _bare(value: Any, given: dict[int, Tensor]) -> Any:
    """The value with meta tensors in the place of all others; `given` remembers which is whose."""
    if isinstance(value, ShapeTensor):
        given[id(value.meta)] = value
        return value.meta
    if isinstance(value, Tensor):
        meta = torch.empty_strided(value.size(), value.stride(), dtype=value.dtype, device=META)
        given[id(meta)] = value
        return meta
    if isinstance(value, (list, tuple)):
        return type(value)(_bare(item, given) for item in value)
    return value


def _dressed(result: Any, given: Mapping[int, Tensor]) -> Any:
    if isinstance(result, Tensor):
        return given[id(result)] if id(result) in given else ShapeTensor(result)
    if isinstance(result, (list, tuple)):
        return type(result)(_dressed(item, given) for item in result)
    return result
