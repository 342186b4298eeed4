"""Media beside the sequence: gated cross-attention blocks in front of chosen layers of the language model.

The gates start at zero, so that the language model starts out as it was, to the bit. Blocks are inserted by hooks:
the language model's own code and the names of its tensors stay what they are.

Letters: B samples, T positions, M media tokens, D width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from modalign.errors import ModalignError
from modalign.models.fusion.sequence import Composed, CrossSource, lay_out, media_rows
from modalign.models.language_model import CausalLanguageModel
from modalign.models.packing import Packing
from modalign.models.projectors.blocks import SwiGLU
from modalign.models.transfer import sent
from modalign.types import Batch, TokenSet


class GatedCrossAttention(nn.Module):
    """x + tanh(gate) attention(x, media), then x + tanh(gate) feed(x); positions that see no media pass unchanged."""

    def __init__(self, width: int, media_width: int, num_heads: int, hidden: int) -> None:
        super().__init__()
        if width % num_heads:
            raise ModalignError(f"a width of {width} cannot be split into {num_heads} heads; change num_heads")
        self.num_heads = num_heads
        self.norm = nn.RMSNorm(width, eps=1e-5)
        self.media_norm = nn.LayerNorm(media_width)
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(media_width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.gate_attention = nn.Parameter(torch.zeros(1))  # one axis: a scalar cannot be sharded
        self.feed_norm = nn.RMSNorm(width, eps=1e-5)
        self.feed = SwiGLU(width, hidden)
        self.gate_feed = nn.Parameter(torch.zeros(1))

    def forward(
        self,
        x: Float[Tensor, "_ _ D"],
        media: Float[Tensor, "B M _"],
        visible: Bool[Tensor, "B T M"],
        packing: Packing | None = None,
    ) -> Float[Tensor, "_ _ D"]:
        """The hidden states [B, T, D], or packed [1, N, D], after having read the media that each may see."""
        sees = visible.any(dim=-1, keepdim=True)
        key, value = (self._heads(part) for part in self.key_value(self.media_norm(media)).chunk(2, dim=-1))
        query = self.query(self.norm(x))
        query = self._heads(query if packing is None else packing.unpack(query))
        # A row that sees nothing would be a softmax over nothing: it reads everything, and is then left out.
        read = F.scaled_dot_product_attention(query, key, value, attn_mask=(visible | ~sees).unsqueeze(1))
        read = read.transpose(1, 2).flatten(2)
        if packing is not None:
            read, sees = packing.pack(read), packing.pack(sees)
        read = self.out(read)
        x = x + (self.gate_attention.tanh() * read).masked_fill(~sees, 0.0)
        return x + (self.gate_feed.tanh() * self.feed(x, self.feed_norm)).masked_fill(~sees, 0.0)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class _Insert:
    """The hook in front of one layer; an object rather than a closure, so that copies of a model get their own."""

    def __init__(self, fusion: GatedCrossAttentionFusion, site: str) -> None:
        self.fusion, self.site = fusion, site

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.fusion.source is None:
            return None
        if args:
            return (self.fusion.read(self.site, args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": self.fusion.read(self.site, kwargs["hidden_states"])}


class GatedCrossAttentionFusion(nn.Module):
    """Media are no positions of the sequence but sources of the blocks in front of the layers numbered in `sites`.

    A position may read all media that lie before the text token which it has to predict.
    """

    def __init__(self, width: int, media_width: int, sites: Sequence[int], num_heads: int, hidden: int) -> None:
        super().__init__()
        self.width = width
        self.source_width = media_width
        self.blocks = nn.ModuleDict(
            {str(site): GatedCrossAttention(width, media_width, num_heads, hidden) for site in sites}
        )
        self.source: CrossSource | None = None

    def media_width(self, language_model: CausalLanguageModel) -> int:
        """The width of the blocks' keys and values, which may differ from the language model's."""
        return self.source_width

    def attach(self, language_model: CausalLanguageModel) -> None:
        """Hooks a block in front of each named layer."""
        layers = language_model.layers
        if language_model.width != self.width:
            raise ModalignError(
                f"cross-attention was built for width {self.width}, the language model has {language_model.width}"
            )
        for site in self.blocks:
            if not 0 <= int(site) < len(layers):
                raise ModalignError(f"cross-attention site {site} is no layer: the language model has {len(layers)}")
            layers[int(site)].register_forward_pre_hook(_Insert(self, site), with_kwargs=True)

    def compose(
        self,
        batch: Batch,
        token_sets: Mapping[str, TokenSet],
        language_model: CausalLanguageModel,
        padding: str = "right",
    ) -> Composed:
        """The text alone as the sequence, the media as sources."""
        rows, before, media = _split(batch, media_rows(token_sets, 0))
        composed = lay_out(batch, rows, language_model.embed(batch.text_ids), [], padding)
        longest = max(len(m) for m in media)
        if longest:
            flat = torch.cat([t.values.flatten(0, 1) for t in token_sets.values()])
            index = sent([m + [0] * (longest - len(m)) for m in media], flat.device)
            counts = _pad(before, composed.embeddings.shape[1], padding, flat.device)
            visible = torch.arange(longest, device=flat.device) < counts.unsqueeze(-1)
            values = flat.index_select(0, index.flatten()).view(*index.shape, -1)
            composed.cross = CrossSource(values.to(composed.embeddings.dtype), visible)
        return composed

    @contextmanager
    def reading(self, cross: CrossSource | None) -> Iterator[None]:
        """Within it the blocks read `cross`; outside, and for None, the language model runs as if they were not."""
        self.source = cross
        try:
            yield
        finally:
            self.source = None

    def read(self, site: str, hidden: Float[Tensor, "_ _ D"]) -> Float[Tensor, "_ _ D"]:
        """One block's work; while generating, new positions see what the last one of the prompt saw."""
        assert self.source is not None
        visible, packing = self.source.visible, self.source.packing
        if packing is None and hidden.shape[1] != visible.shape[1]:
            visible = visible[:, -1:].expand(-1, hidden.shape[1], -1)
        return self.blocks[site](hidden, self.source.values, visible, packing)


def _split(
    batch: Batch, table: Mapping[str, list[list[int]]]
) -> tuple[list[list[int]], list[list[int]], list[list[int]]]:
    """By sample: its text rows, how many media tokens each of them may read, and its media rows."""
    all_text, all_before, all_media = [], [], []
    for key, layout in zip(batch.keys, batch.layout, strict=True):
        text: list[int] = []
        before: list[int] = []
        media: list[int] = []
        for segment in layout:
            if segment.modality is not None:
                media.extend(table[segment.modality][segment.start])
            elif segment.length:
                if before:
                    before[-1] = len(media)
                text.extend(range(segment.start, segment.start + segment.length))
                before.extend([len(media)] * segment.length)
        if not text:
            raise ModalignError(f"sample {key} has no text: beside cross-attention a sequence needs at least one token")
        before[-1] = len(media)
        all_text.append(text)
        all_before.append(before)
        all_media.append(media)
    return all_text, all_before, all_media


def _pad(rows: list[list[int]], length: int, padding: str, device: torch.device) -> Tensor:
    zeros = [[0] * (length - len(r)) for r in rows]
    return sent([r + z if padding == "right" else z + r for r, z in zip(rows, zeros, strict=True)], device)
