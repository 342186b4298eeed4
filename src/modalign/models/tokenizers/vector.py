"""Tokens of plain vectors (voxels, measurements): a linear map, one for each variant where lengths differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from modalign.errors import ModalignError, unknown_name
from modalign.models.transfer import sent
from modalign.types import DEFAULT_VARIANT


class VectorTokenizer(nn.Module):
    """Linear from a variant's length to `num_tokens` tokens; `sizes` gives the length of each variant."""

    def __init__(self, width: int, num_tokens: int, sizes: Mapping[str, int], bias: bool = True) -> None:
        super().__init__()
        if not sizes:
            raise ModalignError("VectorTokenizer needs the length of at least one variant: sizes={default: 128}")
        self.has_bias = bias
        self.width = width
        self.num_tokens = num_tokens
        self.sizes = dict(sizes)
        self.linears = nn.ModuleDict({k: nn.Linear(n, num_tokens * width, bias=bias) for k, n in self.sizes.items()})

    def forward(
        self, values: Float[Tensor, "N ..."], variants: tuple[str | None, ...] = ()
    ) -> Float[Tensor, "N 1 L D"]:
        """Vectors [N, V] (or [N, 1, V]), zero-padded to a common V, to tokens; no variant named means `default`."""
        vectors = values.flatten(1)
        names = [self.variant(v) for v in variants] if variants else [self.variant(None)] * len(vectors)
        if len(names) != len(vectors):
            raise ModalignError(f"VectorTokenizer got {len(vectors)} vectors but {len(names)} variants")
        rows, pieces = [], []
        for name in dict.fromkeys(names):
            chosen = [i for i, other in enumerate(names) if other == name]
            pieces.append(self._project(name, vectors.index_select(0, sent(chosen, values.device))))
            rows.extend(chosen)
        order = sent(sorted(range(len(rows)), key=rows.__getitem__), values.device)
        return torch.cat(pieces).index_select(0, order).view(len(vectors), 1, self.num_tokens, self.width)

    def variant(self, variant: str | None) -> str:
        """The variant that is meant, where it is known; without one `default`, or the only one there is."""
        name = variant if variant is not None else DEFAULT_VARIANT
        if name in self.sizes:
            return name
        if variant is None and len(self.sizes) == 1:
            return next(iter(self.sizes))
        raise unknown_name("variant", name, self.sizes, "VectorTokenizer (sizes)")

    def values_of(self, variant: str, vector: Float[Tensor, "..."]) -> Float[Tensor, " V"]:
        """The values of one vector that belong to the variant; raises where there are fewer."""
        return self._cut(variant, vector.flatten()[None])[0]

    @torch.no_grad()
    def set_map(self, variant: str, weight: Float[Tensor, "V F"], bias: Float[Tensor, " F"]) -> None:
        """Sets a variant's map, with F = num_tokens x width; only of tokenizers with a bias."""
        linear = cast(nn.Linear, self.linears[variant])
        linear.weight.copy_(weight.T)
        linear.bias.copy_(bias)

    def _project(self, name: str, vectors: Tensor) -> Tensor:
        return self.linears[name](self._cut(name, vectors))

    def _cut(self, name: str, vectors: Tensor) -> Tensor:
        size = self.sizes[name]
        if vectors.shape[1] < size:
            raise ModalignError(
                f"variant '{name}' has {size} values, but vectors of {vectors.shape[1]} came: give `sizes` of the "
                f"tokenizer the length that they have"
            )
        return vectors[:, :size]
