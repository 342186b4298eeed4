"""An image encoder with a text tower beside it: what contrastive training (CLIP) needs, no language model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from modalign.models.encoders.open_clip_tower import OpenClipTower, build_text_tower
from modalign.models.freezing import FreezableModule
from modalign.models.shards import whole
from modalign.models.text_tokenizer import TextTokenizer
from modalign.types import MediaBatch


class TextSide(nn.Module):
    """The text tower, the image side's projection and the learned temperature (Radford et al. 2021)."""

    def __init__(self, text_cfg: Mapping[str, Any], width: int, embed_dim: int) -> None:
        super().__init__()
        self.tower = build_text_tower(text_cfg, embed_dim)
        self.image_projection = nn.Parameter(torch.randn(width, embed_dim) * width**-0.5)
        self.log_scale = nn.Parameter(torch.tensor([2.6593]))  # 1 / 0.07


class ContrastiveModel(FreezableModule):
    """A pixel tokenizer and a tower as the aligned model has them, compared with texts by cosine."""

    entries = ("embed_images", "embed_texts")  # what is called of it, since it has no forward

    def __init__(
        self,
        tokenizers: Mapping[str, nn.Module],
        encoders: Mapping[str, OpenClipTower],
        tokenizer_of: Mapping[str, str],
        text_cfg: Mapping[str, Any],
        embed_dim: int,
        text_tokenizer: TextTokenizer,
    ) -> None:
        super().__init__()
        self.tokenizers = nn.ModuleDict(tokenizers)
        self.encoders = nn.ModuleDict(encoders)
        self.tokenizer_of = dict(tokenizer_of)
        self.text_tokenizer = text_tokenizer
        self.context_length = int(text_cfg["context_length"])
        (tower,) = encoders.values()
        self.tower = [tower]  # a plain list: named once, under `encoders`
        self.text = TextSide(text_cfg, tower.width, embed_dim)

    def embed_images(self, media: Mapping[str, MediaBatch]) -> Float[Tensor, "N E"]:
        """Unit vectors of the media of the one modality of the batch: the class token, projected."""
        ((modality, items),) = media.items()
        tokens = self.tokenizers[self.tokenizer_of[modality]](items.standardised().values, items.variants)
        features = self.tower[0](tokens.flatten(0, 1))[:, 0]
        return F.normalize(features @ self.text.image_projection, dim=-1)

    def embed_texts(self, rows: Sequence[Sequence[int]]) -> Float[Tensor, "N E"]:
        """Unit vectors of texts given as token ids (0 pads; a text that is too long is cut)."""
        device = self.text.image_projection.device
        ids = torch.zeros(len(rows), self.context_length, dtype=torch.long, device=device)
        ends = []
        for number, row in enumerate(rows):
            kept = list(row)[: self.context_length - 1]
            ids[number, : len(kept)] = torch.tensor(kept, device=device) + 1  # 0 stays free for padding
            ends.append(len(kept) - 1)
        hidden = self.text.tower(ids, torch.tensor(ends, device=device))
        return F.normalize(hidden, dim=-1)

    @property
    def scale(self) -> Tensor:
        """The learned inverse temperature, at most 100."""
        return self.text.log_scale.exp().clamp(max=100.0)

    @torch.no_grad()
    def settle(self) -> None:
        """Give the tower its patch convolution and projection as a CLIP has them, once training has ended."""
        tower = self.tower[0]
        (tokenizer,) = set(self.tokenizer_of.values())
        tower.patch_weight.copy_(whole(self.get_parameter(f"tokenizers.{tokenizer}.conv.weight")))
        if tower.projection is not None:
            tower.projection.copy_(whole(self.text.image_projection))
