"""A plain projector: a small MLP on every feature, so that as many tokens leave as came."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from modalign.errors import unknown_name
from modalign.types import TokenSet


class MlpPort(nn.Module):
    """One modality's Linear, GELU, Linear and, by `out_norm`, LayerNorm."""

    def __init__(self, width_in: int, hidden: int, width_out: int, out_norm: bool) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width_in, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, width_out)
        self.out_norm = nn.LayerNorm(width_out) if out_norm else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features [..., width_in] to [..., width_out]."""
        return self.out_norm(self.fc2(self.act(self.fc1(x.to(self.fc1.weight.dtype)))))


class MlpProjector(nn.Module):
    """Every valid feature becomes a soft token; `shared` gives all modalities one MLP."""

    def __init__(
        self,
        width_in: int,
        width_out: int,
        modalities: Sequence[str],
        hidden: int = 0,
        out_norm: bool = False,
        shared: bool = False,
    ) -> None:
        super().__init__()
        self.width_in, self.width_out = width_in, width_out
        self.modalities = tuple(modalities)
        self.shared = shared
        names = ("all",) if shared else self.modalities
        size = hidden or width_out
        self.ports = nn.ModuleDict({name: MlpPort(width_in, size, width_out, out_norm) for name in names})

    def forward(self, features: TokenSet, modality: str) -> TokenSet:
        """A modality's features to as many soft tokens; the mask goes with them."""
        if modality not in self.modalities:
            raise unknown_name("modality", modality, self.modalities, "MlpProjector")
        port = self.ports["all" if self.shared else modality]
        return TokenSet(port(features.values), features.mask, features.positions, modality)

    @torch.no_grad()
    def match_scale(self, std: float) -> None:
        """Starts soft tokens at the scale of the language model's embedding rows, where there is an out_norm."""
        for port in self.ports.values():
            if isinstance(port.out_norm, nn.LayerNorm):
                port.out_norm.weight.fill_(std)
