"""Copies on the host of what a checkpoint holds, as it is now, so that it can be written while training goes on."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor


class Snapshot:
    """`contents` (tensors in dicts, lists and tuples) as they were when this was made, on the host.

    What lies on a GPU is on its way: the training need not wait for it, since the device copies before it does what it
    is asked afterwards; `arrive` waits and gives the contents.
    """

    def __init__(self, contents: Any) -> None:
        self._copies = _copied(contents)
        self._sent = torch.cuda.Event(blocking=True) if _on_gpu(contents) else None
        if self._sent is not None:
            self._sent.record()

    def arrive(self) -> Any:
        """The contents, all of them there."""
        if self._sent is not None:
            self._sent.synchronize()
        return self._copies


def _copied(value: Any) -> Any:
    """The same with tensors of its own; what is neither a tensor nor a plain container is left as it is."""
    if isinstance(value, Tensor):
        return _copy(value.detach())
    if type(value) in (dict, OrderedDict):
        return type(value)((key, _copied(child)) for key, child in value.items())
    if type(value) in (list, tuple):
        return type(value)(_copied(child) for child in value)
    return value


def _copy(tensor: Tensor) -> Tensor:
    if not tensor.is_cuda:
        return tensor.to("cpu", copy=True)
    # Only into pinned memory does a GPU copy by itself; torch keeps the memory for the next time.
    target = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return target.copy_(tensor, non_blocking=True)


def _on_gpu(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.is_cuda
    children = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return any(_on_gpu(child) for child in children)
