"""Tensors that lie in shards over the processes: what of them is here, and how to get and give them whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def local(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor: all of it, where it is no sharded one."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """The whole tensor; for a sharded one all processes have to ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def gathered(tensors: Mapping[str, Tensor], keep: bool) -> dict[str, Tensor]:
    """Whole copies of `tensors` on the CPU, for the process that is to `keep` them; the others only take part."""
    kept: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        full = whole(tensor.detach())
        if keep:
            kept[name] = apart(full, tensor)
    return kept


def apart(full: Tensor, tensor: Tensor) -> Tensor:
    """`full` on the CPU; a copy, where it is what `tensor` holds itself (one process holds all of its only shard)."""
    there = full.cpu()
    same = there.untyped_storage().data_ptr() == local(tensor).untyped_storage().data_ptr()
    return there.clone() if same else there


def like(target: Tensor, source: Tensor) -> Tensor:
    """The whole `source`, which every process holds, cut as `target` is."""
    if not isinstance(target, DTensor) or isinstance(source, DTensor):
        return source
    moved = source.to(target.device)
    return distribute_tensor(moved, target.device_mesh, target.placements, src_data_rank=None)


def reached(loss: Tensor) -> set[int]:
    """The ids of the parameters on which `loss` depends."""
    found: set[int] = set()
    seen, open_nodes = set(), [loss.grad_fn]
    while open_nodes:
        node = open_nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        parameter = getattr(node, "variable", None)
        if parameter is not None:
            found.add(id(parameter))
        open_nodes.extend(following for following, _ in node.next_functions)
    return found


def touching(loss: Tensor, parameters: Iterable[Tensor]) -> Tensor:
    """The same loss, on which `parameters` now have a gradient of zero."""
    untouched = [parameter.sum() for parameter in parameters]
    return loss + 0.0 * torch.stack(untouched).sum().to(loss) if untouched else loss
