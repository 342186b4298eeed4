"""The last decoder layer computes a position's own part only where its hidden state is wanted.

The other positions are read there as keys and values alone: their queries, what attention reads for them and the
feed-forward behind it would be thrown away. It goes through hooks on the layer's own modules, so that a model's forward
stays what it is; where a state is wanted, values and gradients agree with the whole layer's to rounding.

Letters: B samples, T positions of a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from modalign.models.rows import put, take
from modalign.models.transfer import sent

# Of the modules of a layer those that read a position alone, by the names that transformers' models share.
_ATTENTION, _OF_ATTENTION, _OF_LAYER = "self_attn", ("q_proj", "o_proj"), ("mlp", "feed_forward", "block_sparse_moe")
# Where a larger share of the positions is wanted, taking them out costs what it saves.
MOST = 0.8
_ARGUMENT = "wanted_positions"
# Feed-forwards that choose experts for a position by what others say, by the names of their classes.
_MIXING = {"DogeCDMoE"}


class LastLayer:
    """Hooks on the last layer of a language model; they do nothing outside `computing`."""

    def __init__(self, layer: nn.Module | None) -> None:
        self._wanted: Tensor | None = None
        self._lead = torch.Size()
        if layer is None or not (narrowed := narrowed_modules(layer)):
            return
        self._within = _Within(layer.forward)
        layer.forward = self._within  # type: ignore[method-assign, assignment]
        layer.register_forward_pre_hook(self._tell, with_kwargs=True)
        for module in narrowed:
            module.register_forward_pre_hook(self._take)
            module.register_forward_hook(self._put)

    @contextmanager
    def computing(self, places: Sequence[int] | None, num_positions: int, device: torch.device) -> Iterator[None]:
        """Within it the layer's output counts at these of B * T positions alone, which come in order; None: at all."""
        if places is not None and 0 < len(places) <= MOST * num_positions:
            self._wanted = sent(places, device)
        try:
            yield
        finally:
            self._wanted = None

    def _tell(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """As an argument it is known again when activation checkpointing computes the layer once more."""
        return None if self._wanted is None else (args, {**kwargs, _ARGUMENT: self._wanted})

    def _take(self, module: nn.Module, args: tuple[Any, ...]) -> Any:
        if self._within.wanted is None:
            return None
        self._lead = args[0].shape[:-1]
        return take(args[0], self._within.wanted, len(self._lead)).unsqueeze(0), *args[1:]

    def _put(self, module: nn.Module, args: tuple[Any, ...], made: Any) -> Any:
        if self._within.wanted is None:
            return None
        if isinstance(made, tuple):
            return put(made[0][0], self._within.wanted, self._lead), *made[1:]
        return put(made[0], self._within.wanted, self._lead)


class _Within:
    """The layer's forward, during which `wanted` is what it was called with."""

    def __init__(self, forward: Callable[..., Any]) -> None:
        self.forward, self.wanted = forward, None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.wanted = kwargs.pop(_ARGUMENT, None)
        try:
            return self.forward(*args, **kwargs)
        finally:
            self.wanted = None


def narrowed_modules(layer: nn.Module) -> list[nn.Module]:
    """The modules of a decoder layer that read each position alone; none where the layer is of an unknown make."""
    attention = getattr(layer, _ATTENTION, None)
    within = [getattr(attention, name, None) for name in _OF_ATTENTION]
    behind = [module for name in _OF_LAYER if isinstance(module := getattr(layer, name, None), nn.Module)]
    mixes = any(isinstance(module, nn.Conv1d) or type(module).__name__ in _MIXING for module in layer.modules())
    found = [module for module in within if isinstance(module, nn.Module)]
    return [] if mixes or len(found) < len(within) or not behind else [*found, *behind]
