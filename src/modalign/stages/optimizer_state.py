"""The optimizer's state by the names of parameters and in whole tensors, so that every engine can go on with it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from modalign.errors import ModalignError
from modalign.models.shards import apart, like, whole


def keep_by_name(optimizer: torch.optim.Optimizer, model: nn.Module, first: bool) -> None:
    """Let `state_dict` speak of names instead of numbers, and `load_state_dict` take them.

    Of sharded parameters every process has to ask for the state; only the `first` gets it.
    """
    known = {id(parameter): name for name, parameter in model.named_parameters()}
    names = [known[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]
    optimizer.register_state_dict_post_hook(partial(_to_names, names=names, first=first))
    optimizer.register_load_state_dict_pre_hook(partial(_to_numbers, names=names))


def _to_names(optimizer: torch.optim.Optimizer, state: dict[str, Any], names: list[str], first: bool) -> dict[str, Any]:
    by_name: dict[str, dict[str, Any]] = {}
    sharded = any(isinstance(p, DTensor) for group in optimizer.param_groups for p in group["params"])
    for number, values in state["state"].items():
        held = {key: _gathered(value) for key, value in values.items()} if sharded else values
        if first:
            by_name[names[number]] = held
    groups = [{**group, "params": [names[number] for number in group["params"]]} for group in state["param_groups"]]
    return {"state": by_name, "param_groups": groups}


def _gathered(value: Any) -> Any:
    """The whole of a value of a sharded optimizer, on the CPU and its own."""
    return apart(whole(value), value) if isinstance(value, Tensor) else value


def _to_numbers(optimizer: torch.optim.Optimizer, state: Mapping[str, Any], names: list[str]) -> dict[str, Any] | None:
    """From names back to numbers; a state with numbers is one of an earlier version, and is taken as it is."""
    if any(isinstance(key, int) for group in state["param_groups"] for key in group["params"]):
        return None
    saved = {name: group for group in state["param_groups"] for name in group["params"]}
    if saved.keys() != set(names):
        lost = sorted(saved.keys() ^ set(names))
        raise ModalignError(
            f"the checkpoint's optimizer knows {len(saved)} parameters, the run's {len(names)}: they differ in "
            f"{lost[0]}; it was made with other settings"
        )
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    numbers = {name: number for number, name in enumerate(names)}
    groups = []
    first = 0
    for group in optimizer.param_groups:
        count = len(group["params"])
        groups.append({**saved[names[first]], "params": list(range(first, first + count))})
        first += count
    cut = {
        numbers[name]: {key: _cut(value, parameters[numbers[name]]) for key, value in values.items()}
        for name, values in state["state"].items()
    }
    return {"state": cut, "param_groups": groups}


def _cut(value: Any, parameter: Tensor) -> Any:
    return like(parameter, value) if isinstance(value, Tensor) and value.shape == parameter.shape else value
