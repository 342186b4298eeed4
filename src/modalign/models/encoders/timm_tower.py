"""The universal encoder, second kind: any plain vision transformer of timm (SigLIP, DINOv2), fed with tokens.

The only file that knows timm's internals.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import cast

import timm
import torch
from jaxtyping import Float
from timm.models import load_state_dict
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from modalign.errors import ModalignError
from modalign.models.hub import telling_hub
from modalign.models.pretrained import dtype_of

# Beginnings of the names of timm's tensors that the tower uses.
_USED = ("cls_token", "reg_token", "pos_embed", "patch_embed.", "norm_pre.", "blocks.", "norm.")


class TimmTower(nn.Module):
    """Prefix tokens (class, registers; SigLIP has none), positions, blocks, the last norm on every token; no pooling.

    `architecture` is one of timm's names without its tag, `pretrained` the tag, a file of weights, or None; `size_px`
    the side of the pictures, for which positions are resampled (None: the architecture's own). Gradients flow through.
    """

    patch_weight: Tensor

    def __init__(
        self,
        architecture: str,
        pretrained: str | None = None,
        size_px: int | None = None,
        dtype: str = "float32",
    ) -> None:
        super().__init__()
        model = _build(architecture, pretrained, size_px)
        prefix = [part[0] for part in (model.cls_token, model.reg_token) if part is not None]
        self.width = int(model.embed_dim)
        self.num_prefix = sum(len(part) for part in prefix)
        self.has_class_token = model.cls_token is not None
        self.prefix = nn.Parameter(torch.cat([*prefix, torch.zeros(0, self.width)]).detach())
        self.positional_embedding = nn.Parameter(_own_positions(model, self.num_prefix))
        self.num_patches = len(self.positional_embedding) - self.num_prefix
        self.norm_pre, self.blocks, self.norm = model.norm_pre, model.blocks, model.norm
        # A buffer: it is the start of a tokenizer, no path through the tower uses it.
        self.register_buffer("patch_weight", cast(nn.Conv2d, model.patch_embed.proj).weight.detach().clone())
        if dtype != "float32":
            self.to(dtype_of(dtype, "the encoder"))

    def forward(
        self, tokens: Float[Tensor, "N L D"], positions: Float[Tensor, "L1 D"] | None = None
    ) -> Float[Tensor, "N L2 D"]:
        """Features of the prefix tokens and of every token; without `positions` the tower's own are added.

        The first row of `positions` is the class token's, and unused where there is none.
        """
        given = self.num_patches if positions is None else len(positions) - 1
        if given != tokens.shape[1]:
            raise ModalignError(
                f"{tokens.shape[1]} tokens came, but there are positions for {given}; "
                "give the modality learned positions of its own, or change the tokenizer's sizes"
            )
        # A frozen tower may be kept in half precision in front of tokenizers and projectors that train in full.
        tokens = tokens.to(self.prefix.dtype)
        table = self.positional_embedding if positions is None else self._with_prefix(positions)
        embedded = torch.cat([self.prefix.expand(len(tokens), -1, -1), tokens], dim=1) + table.to(tokens.dtype)
        return self.norm(self.blocks(self.norm_pre(embedded)))

    def _with_prefix(self, positions: Float[Tensor, "L1 D"]) -> Float[Tensor, "L2 D"]:
        """A modality's table with a row for each prefix token; only the class token's is not zero."""
        rows = positions.new_zeros(self.num_prefix, positions.shape[1])
        if self.has_class_token:
            rows = torch.cat([positions[:1], rows[1:]])
        return torch.cat([rows, positions[1:]])


def _own_positions(model: VisionTransformer, num_prefix: int) -> Float[Tensor, "L2 D"]:
    """A row for each prefix token and patch. The patches' bias is the same at every place, so it belongs to these rows,
    and a tokenizer without bias can start from the convolution alone."""
    own = cast(Tensor, model.pos_embed)[0].detach()
    if model.no_embed_class:
        own = torch.cat([own.new_zeros(num_prefix, own.shape[1]), own])
    bias = cast(nn.Conv2d, model.patch_embed.proj).bias
    patches = own[num_prefix:] if bias is None else own[num_prefix:] + bias.detach()
    return torch.cat([own[:num_prefix], patches])


def _build(architecture: str, pretrained: str | None, size_px: int | None) -> VisionTransformer:
    if architecture not in timm.list_models():
        nearest = ", ".join(difflib.get_close_matches(architecture, timm.list_models(), n=3, cutoff=0.0))
        raise ModalignError(f"unknown timm model '{architecture}': nearest are {nearest} (timm.list_models has all)")
    options: dict[str, object] = {"num_classes": 0}
    if size_px is not None:
        options["img_size"] = size_px
    name = architecture
    if pretrained is not None and Path(pretrained).suffix:
        if not Path(pretrained).is_file():
            raise ModalignError(f"the encoder {architecture}: there is no file of weights {pretrained}")
        options |= {"pretrained": True, "pretrained_cfg_overlay": {"file": pretrained}}
    elif pretrained is not None:
        name = f"{architecture}.{pretrained}"
        if name not in timm.list_pretrained():
            tags = ", ".join(n.split(".", 1)[1] for n in timm.list_pretrained(f"{architecture}.*")) or "none"
            raise ModalignError(
                f"unknown pretrained '{pretrained}' for the encoder {architecture}: its tags are {tags}"
            )
        options["pretrained"] = True
    with telling_hub("the encoder", name, "model.encoders"):
        model = timm.create_model(name, **options)  # type: ignore[arg-type]
        if pretrained is not None and Path(pretrained).is_file():
            _require_whole(model, pretrained)
    if not isinstance(model, VisionTransformer) or model.pos_embed is None:
        raise ModalignError(
            f"the encoder {architecture} is timm's {type(model).__name__}, no plain vision transformer with a table of "
            f"positions: choose a ViT such as vit_large_patch14_dinov2 or vit_so400m_patch14_siglip_224"
        )
    return model


def _require_whole(model: nn.Module, file: str) -> None:
    """timm leaves what a file lacks as it was drawn, and drops what is too many, with no more than a log line."""
    given = {name for name in load_state_dict(file, device="cpu") if name.startswith(_USED)}
    wanted = {name for name in model.state_dict() if name.startswith(_USED)}
    for names, what in ((wanted - given, "lacks"), (given - wanted, "has, unknown to the encoder,")):
        if names:
            raise ModalignError(
                f"{file} {what} {len(names)} tensors, the first is {min(names)}: another architecture's"
            )
