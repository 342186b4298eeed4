"""The universal projection module: experts shared by all modalities, and a port and a router for each of them.

Letters: N items, L input tokens, Q query tokens, D widths, K experts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from modalign.errors import ModalignError, unknown_name
from modalign.models.projectors.blocks import Expert
from modalign.models.projectors.router import Router, RouterSettings, constant_weights
from modalign.models.shards import whole
from modalign.types import TokenSet

_START_SCALES = ("embeddings", "one")


class Port(nn.Module):
    """What is a modality's own: query tokens, projections in and out, and the tags around its tokens."""

    def __init__(
        self,
        width_in: int,
        width: int,
        width_out: int,
        num_queries: int,
        tags: bool,
        query_std: float,
        tag_std: float | None,
    ) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(num_queries, width) * query_std)
        self.in_proj = nn.Linear(width_in, width)
        self.in_norm = nn.LayerNorm(width)
        self.out_proj = nn.Linear(width, width_out)
        self.out_norm = nn.LayerNorm(width_out)
        self.start_tag = nn.Parameter(_drawn(width_out, tag_std)) if tags else None
        self.end_tag = nn.Parameter(_drawn(width_out, tag_std)) if tags else None

    def enter(self, features: Float[Tensor, "N L _"]) -> Float[Tensor, "N L D"]:
        """Features into the experts' width."""
        return self.in_norm(self.in_proj(features.to(self.in_proj.weight.dtype)))

    def leave(self, mixed: Float[Tensor, "N Q D"]) -> Float[Tensor, "N Q2 _"]:
        """Query tokens into the language model's width, between their tags."""
        tokens = self.out_norm(self.out_proj(mixed))
        if self.start_tag is None or self.end_tag is None:
            return tokens
        start, end = (tag.to(tokens.dtype).expand(len(tokens), 1, -1) for tag in (self.start_tag, self.end_tag))
        return torch.cat([start, tokens, end], dim=1)


class UniversalProjector(nn.Module):
    """Eq. 2 of the paper: the experts' query tokens, weighted by the modality's router and summed.

    `width_in` is the encoder's width, `width` the experts', `width_out` the language model's; `hidden` the SwiGLU's.
    With one expert there is no router. `start_scale`: soft tokens and tags start as wide as the language model's
    embedding rows ("embeddings"), or at 1 and with tags drawn evenly from 0 to 1 ("one": the released OneLLM).
    """

    def __init__(
        self,
        width_in: int,
        width: int,
        width_out: int,
        num_experts: int,
        expert_layers: int,
        num_heads: int,
        hidden: int,
        num_queries: int,
        modalities: Sequence[str],
        router: RouterSettings | Mapping[str, Any] | None = None,
        tags: bool = True,
        query_std: float = 0.02,
        tag_std: float = 0.02,
        norm_eps: float = 1e-5,
        start_scale: str = "embeddings",
    ) -> None:
        super().__init__()
        if start_scale not in _START_SCALES:
            raise unknown_name("start_scale", start_scale, _START_SCALES, "UniversalProjector")
        if num_experts < 1:
            raise ModalignError(f"a UPM needs at least one expert, not {num_experts} (num_experts)")
        sizes = {"width": width, "num_heads": num_heads, "hidden": hidden, "num_queries": num_queries}
        if wrong := [f"{name}={size}" for name, size in sizes.items() if size < 1]:
            raise ModalignError(f"a UPM of {', '.join(wrong)} cannot be: give 1 or more")
        self.width_in, self.width, self.width_out = width_in, width, width_out
        self.num_experts = num_experts
        self.tag_std, self.start_scale = tag_std, start_scale
        self.settings = router if isinstance(router, RouterSettings) else RouterSettings(**(router or {}))
        self.experts = nn.ModuleList(
            Expert(width, expert_layers, num_heads, hidden, norm_eps) for _ in range(num_experts)
        )
        spread = tag_std if start_scale == "embeddings" else None
        ports = {m: Port(width_in, width, width_out, num_queries, tags, query_std, spread) for m in modalities}
        self.ports = nn.ModuleDict(ports)
        self.router = nn.ModuleDict()
        if num_experts > 1 and self.settings.kind != "constant":
            self.router.update({m: Router(width, num_experts, self.settings) for m in modalities})

    def forward(self, features: TokenSet, modality: str) -> TokenSet:
        """A modality's features [N, L, width_in] to its soft tokens [N, Q (+ 2 tags), width_out]."""
        port, queries, inputs = self._enter(features, modality)
        if self.num_experts == 1:
            mixed = self.experts[0](queries, inputs, features.mask)
        else:
            mixed = self._mix(queries, inputs, features.mask, self._weigh(queries, inputs, features.mask, modality))
        return TokenSet(port.leave(mixed), name=modality)

    def router_weights(self, features: TokenSet, modality: str) -> Float[Tensor, "N Q K"]:
        """The weight of each expert, by item and query token."""
        _, queries, inputs = self._enter(features, modality)
        return self._weigh(queries, inputs, features.mask, modality)

    @torch.no_grad()
    def expert_distance(self) -> Float[Tensor, "K K"]:
        """Distances between the experts' parameters, relative to their mean length; 0 for identical copies."""
        experts = [[whole(p.detach()).reshape(-1).float() for p in e.parameters()] for e in self.experts]
        flat = torch.stack([torch.cat(values) for values in experts])
        lengths = flat.norm(dim=1)
        differences = torch.stack([(flat - row).norm(dim=1) for row in flat])
        return differences / (0.5 * (lengths[:, None] + lengths[None])).clamp_min(1e-12)

    @torch.no_grad()
    def match_scale(self, std: float) -> None:
        """Starts soft tokens and tags at the scale of the language model's embedding rows; "one" stays as it is."""
        if self.start_scale != "embeddings":
            return
        for module in self.ports.values():
            port = cast(Port, module)
            port.out_norm.weight.fill_(std)
            for tag in (port.start_tag, port.end_tag):
                if tag is not None and self.tag_std > 0:
                    tag.mul_(std / self.tag_std)
        self.tag_std = std

    def _enter(self, features: TokenSet, modality: str) -> tuple[Port, Tensor, Tensor]:
        if modality not in self.ports:
            raise unknown_name("modality", modality, self.ports, "UniversalProjector")
        port = cast(Port, self.ports[modality])
        inputs = port.enter(features.values)
        return port, port.queries.to(inputs.dtype).expand(len(inputs), -1, -1), inputs

    def _weigh(self, queries: Tensor, inputs: Tensor, mask: Bool[Tensor, "N L"] | None, modality: str) -> Tensor:
        if modality not in self.router:
            return constant_weights(queries, self.num_experts)
        if mask is None:
            pooled = inputs.mean(dim=1)
        else:
            pooled = (inputs * mask.unsqueeze(-1)).sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp_min(1)
        return self.router[modality](queries, pooled)

    def _mix(self, queries: Tensor, inputs: Tensor, mask: Tensor | None, weights: Tensor) -> Tensor:
        # An expert that nobody chose is skipped only where no gradient is wanted: in training every rank has to run
        # the same modules, whatever its own items chose.
        skip = self.settings.kind == "sparse" and not torch.is_grad_enabled()
        mixed = torch.zeros_like(queries)
        for k, expert in enumerate(self.experts):
            share = weights[..., k : k + 1]
            if skip and not bool(share.any()):
                continue
            mixed = mixed + share * expert(queries, inputs, mask)
        return mixed


def _drawn(width: int, std: float | None) -> Tensor:
    """A tag's start: normal with this deviation, or without one even from 0 to 1."""
    return torch.rand(width) if std is None else torch.randn(width) * std
