"""The part table: which parameters make up which named part, and the state of a model by part.

A parameter's part is the beginning of its name; how many words of it count depends on the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from modalign.errors import ModalignError, unknown_name
from modalign.models.shards import like

# tokenizers.audio, positions.audio, encoders.clip, projectors.upm.experts.0; fusion and llm are one part each.
_WORDS = {"tokenizers": 2, "positions": 2, "encoders": 2, "projectors": 4}
# Adapters lie inside the language model, each beside the map that it adapts, and are a part of their own all the same.
ADAPTERS = "llm.lora"
_ADAPTER_WORD = "lora_"


def part_of(name: str) -> str:
    """The part that a parameter or buffer of this name belongs to."""
    words = name.split(".")
    if words[0] == "llm" and any(word.startswith(_ADAPTER_WORD) for word in words):
        return ADAPTERS
    return ".".join(words[: _WORDS.get(words[0], 1)])


def parts(model: nn.Module) -> dict[str, list[str]]:
    """Parameter names by part, in the model's order; tied parameters are counted once, buffers not at all."""
    table: dict[str, list[str]] = {}
    for name, _ in model.named_parameters():
        table.setdefault(part_of(name), []).append(name)
    return table


def declared_parts(model: nn.Module) -> list[str]:
    """Every part that has a module, also those without a parameter (positions that use the encoder's own)."""
    names = [name for name, _ in model.named_modules() if name and part_of(name) == name and _is_whole(name)]
    return list(dict.fromkeys([*names, *parts(model)]))


def _is_whole(name: str) -> bool:
    words = name.split(".")
    return len(words) == _WORDS.get(words[0], 1)


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Number of parameters of each part."""
    sizes = {name: _numel(p) for name, p in model.named_parameters()}
    return {part: sum(sizes[n] for n in names) for part, names in parts(model).items()}


def _numel(parameter: nn.Parameter) -> int:
    """Its numbers; of a weight in four bits, two of which share a byte, the state says how many they are."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else int(torch.Size(state.shape).numel())


def match(selector: str, known: Iterable[str]) -> list[str]:
    """The parts below a dotted prefix (`projectors.upm`); `*` stands for any one word (`projectors.*.ports.audio`)."""
    names = list(known)
    words = selector.split(".")
    found = [name for name in names if _fits(words, name.split("."))]
    if not found:
        raise unknown_name("part", selector, _with_prefixes(names))
    return found


def _fits(selector: list[str], name: list[str]) -> bool:
    return len(selector) <= len(name) and all(
        fnmatchcase(word, pattern) for pattern, word in zip(selector, name, strict=False)
    )


def _with_prefixes(names: list[str]) -> set[str]:
    return {".".join(name.split(".")[: i + 1]) for name in names for i in range(name.count(".") + 1)}


def state_by_part(model: nn.Module, names: Iterable[str]) -> dict[str, dict[str, Tensor]]:
    """Tensors (buffers included) of the parts, under their names in the model's state; tied ones once."""
    wanted = {name: {} for name in names}  # type: dict[str, dict[str, Tensor]]
    seen: set[int] = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        part = part_of(name)
        if part in wanted and id(tensor) not in seen:
            seen.add(id(tensor))
            wanted[part][name] = tensor.detach()
    declared = declared_parts(model)
    for part in wanted:
        if part not in declared:
            raise unknown_name("part", part, declared)
    return wanted


def load_parts(model: nn.Module, states: Mapping[str, Mapping[str, Tensor]]) -> list[str]:
    """Copies the parts' tensors into the model and returns their names; missing, extra or misshapen ones are errors."""
    expected = state_by_part(model, states)
    for part, tensors in states.items():
        missing, extra = sorted(set(expected[part]) - set(tensors)), sorted(set(tensors) - set(expected[part]))
        if missing or extra:
            what = f"lacks {missing[0]}" if missing else f"has {extra[0]}, which the model has not"
            raise ModalignError(f"the checkpoint's part {part} {what}; it was made with another model")
        copy_tensors(expected[part], tensors, part)
    return [name for tensors in states.values() for name in tensors]


@torch.no_grad()
def copy_tensors(targets: Mapping[str, Tensor], sources: Mapping[str, Tensor], where: str) -> None:
    """Copies each source over the target of the same name; shapes must agree."""
    for name, source in sources.items():
        if targets[name].shape != source.shape:
            raise ModalignError(
                f"{where}: {name} has shape {tuple(source.shape)}, but the model's is {tuple(targets[name].shape)}"
            )
        targets[name].copy_(like(targets[name], source))
