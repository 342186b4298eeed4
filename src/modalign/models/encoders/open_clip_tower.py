"""The universal encoder: the vision tower of any open_clip CLIP, fed with tokens instead of pixels.

The only file that knows open_clip's internals. open_clip >= 3 is batch-first: nothing is permuted here, and a test
sees to it that one item never reaches another.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import open_clip
import torch
from jaxtyping import Float, Int
from open_clip.transformer import VisionTransformer
from safetensors.torch import load_file
from torch import Tensor, nn

from modalign.errors import ModalignError, unknown_name
from modalign.models.attention import choose_kernels
from modalign.models.hub import telling_hub
from modalign.models.pretrained import dtype_of

# Towers from scratch need some text tower to be built beside; it is dropped at once.
_NO_TEXT = {"context_length": 8, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1}


class OpenClipTower(nn.Module):
    """Class token, positions, ln_pre, blocks, ln_post on every token; no projection.

    `architecture` is an open_clip name or its configuration (embed_dim, vision_cfg, quick_gelu); `pretrained` one of
    open_clip's tags, a file (safetensors of a CLIP or of its tower, or whatever open_clip reads), or None. A tower that
    stays frozen may be kept in half precision (`dtype`). Gradients flow through to the tokens. With a `seed` a tower
    from scratch is drawn from it alone: one that never trains is then the same in every run that builds it.
    """

    patch_weight: Tensor
    projection: Tensor | None

    def __init__(
        self,
        architecture: str | Mapping[str, Any],
        pretrained: str | None = None,
        dtype: str = "float32",
        seed: int | None = None,
    ) -> None:
        super().__init__()
        from_file = pretrained is not None and Path(pretrained).suffix == ".safetensors"
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.default_generator.manual_seed(seed)
            visual = _build_visual(architecture, None if from_file else pretrained)
        self.class_embedding = visual.class_embedding
        self.positional_embedding = visual.positional_embedding
        self.ln_pre = visual.ln_pre
        self.transformer = visual.transformer
        choose_kernels(self.transformer)
        self.ln_post = visual.ln_post
        self.width = int(visual.class_embedding.shape[0])
        self.num_patches = int(visual.positional_embedding.shape[0]) - 1
        # Kept as buffers: no path through the tower uses them, so they must not count as parameters that train.
        self.register_buffer("patch_weight", visual.conv1.weight.detach().clone())
        self.register_buffer("projection", None if visual.proj is None else visual.proj.detach().clone())
        if from_file:
            with telling_hub("the encoder", str(pretrained), "model.encoders"):
                self.load_clip(load_file(str(pretrained)), str(pretrained))
        if dtype != "float32":
            self.to(dtype_of(dtype, "the encoder"))

    def forward(
        self, tokens: Float[Tensor, "N L D"], positions: Float[Tensor, "L1 D"] | None = None
    ) -> Float[Tensor, "N L1 D"]:
        """Features of the class token and of every token; without `positions` the tower's own are added."""
        table = self.positional_embedding if positions is None else positions
        if table.shape[0] != tokens.shape[1] + 1:
            raise ModalignError(
                f"{tokens.shape[1]} tokens came, but there are positions for {table.shape[0] - 1}; "
                "give the modality learned positions of its own, or change the tokenizer's sizes"
            )
        # A frozen tower may be kept in half precision in front of tokenizers and projectors that train in full.
        tokens = tokens.to(self.class_embedding.dtype)
        first = self.class_embedding.expand(tokens.shape[0], 1, -1)
        embedded = torch.cat([first, tokens], dim=1) + table.to(tokens.dtype)
        return self.ln_post(self.transformer(self.ln_pre(embedded)))

    def load_clip(self, state: Mapping[str, Tensor], origin: str) -> None:
        """Takes the tower out of a CLIP's state (`visual.` names), a bare tower's, or one of this class."""
        renamed = {clip_to_tower(name): tensor for name, tensor in state.items()}
        wanted = self.state_dict()
        missing = sorted(set(wanted) - set(renamed))
        if missing:
            raise ModalignError(f"{origin} lacks {len(missing)} tensors of the vision tower, the first is {missing[0]}")
        for name, tensor in wanted.items():
            if renamed[name].shape != tensor.shape:
                raise ModalignError(
                    f"{origin}: {name} has shape {tuple(renamed[name].shape)}, the tower's is {tuple(tensor.shape)}"
                )
        self.load_state_dict({name: renamed[name] for name in wanted})


class OpenClipText(nn.Module):
    """open_clip's text transformer, read at each text's last token and projected."""

    def __init__(self, settings: Mapping[str, Any], embed_dim: int) -> None:
        super().__init__()
        vocab_size = int(settings["vocab_size"]) + 1  # one more for padding
        self.tower = open_clip.transformer.TextTransformer(
            **{**settings, "vocab_size": vocab_size}, output_dim=embed_dim, output_tokens=True, pad_id=0
        )

    def forward(self, ids: Int[Tensor, "N L"], ends: Int[Tensor, "N"]) -> Float[Tensor, "N E"]:
        """Embeddings of padded texts whose last tokens lie at `ends`."""
        hidden = self.tower(ids)[1]
        picked = hidden[torch.arange(len(ids), device=ids.device), ends]
        return picked @ self.tower.text_projection


def build_text_tower(settings: Mapping[str, Any], embed_dim: int) -> OpenClipText:
    """A text tower from open_clip's `text_cfg` (context_length, vocab_size, width, heads, layers)."""
    return OpenClipText(settings, embed_dim)


def clip_to_tower(name: str) -> str:
    """The tower's own name for a tensor of a CLIP."""
    bare = name.removeprefix("visual.")
    return {"conv1.weight": "patch_weight", "proj": "projection"}.get(bare, bare)


def tower_to_clip(name: str) -> str:
    """The inverse of `clip_to_tower`, with the `visual.` prefix."""
    return "visual." + {"patch_weight": "conv1.weight", "projection": "proj"}.get(name, name)


def repository(architecture: str, tag: str) -> str | None:
    """Where on the hub open_clip finds the weights of a tag, as owner/name."""
    told = str((open_clip.get_pretrained_cfg(architecture, tag) or {}).get("hf_hub", ""))
    return "/".join(told.split("/")[:2]) or None


def _build_visual(architecture: str | Mapping[str, Any], pretrained: str | None) -> VisionTransformer:
    config = _named_config(architecture) if isinstance(architecture, str) else architecture
    if "timm_model_name" in config.get("vision_cfg", {}):
        raise ModalignError(
            f"the vision tower of {architecture} is timm's {config['vision_cfg']['timm_model_name']}: "
            f"use modalign.models.encoders.timm_tower.TimmTower with that architecture"
        )
    if isinstance(architecture, str) and pretrained is not None:
        visual = _load_named(architecture, pretrained).visual
    else:
        wanted = {"text_cfg": _NO_TEXT, **config}
        try:
            visual = open_clip.CLIP(**wanted).visual
        except (TypeError, AssertionError) as error:
            raise ModalignError(f"open_clip cannot build a CLIP from {sorted(wanted)}: {error}") from error
    if not isinstance(visual, VisionTransformer) or visual.attn_pool is not None:
        raise ModalignError(f"the vision tower of {architecture} is no plain vision transformer; choose a ViT")
    return visual


def _named_config(name: str) -> dict[str, Any]:
    """What builds the vision tower of a named model, without its text side and without weights."""
    if name not in open_clip.list_models():
        nearest = ", ".join(difflib.get_close_matches(name, open_clip.list_models(), n=3, cutoff=0.0))
        raise ModalignError(f"unknown open_clip model '{name}': nearest are {nearest} (open_clip.list_models has all)")
    config = open_clip.get_model_config(name)
    return {key: config[key] for key in ("embed_dim", "vision_cfg", "quick_gelu") if key in config}


def _load_named(name: str, pretrained: str) -> open_clip.CLIP:
    tags = open_clip.list_pretrained_tags_by_model(name)
    if pretrained not in tags and not Path(pretrained).is_file():
        raise unknown_name("pretrained", pretrained, tags, f"the encoder {name} (a tag of open_clip's, or a file)")
    # OpenAI's weights were trained with QuickGELU; open_clip only warns where the name says plain GELU.
    quick = bool((open_clip.get_pretrained_cfg(name, pretrained) or {}).get("quick_gelu"))
    with telling_hub("the encoder", f"{name} {pretrained}", "model.encoders"):
        return cast(open_clip.CLIP, open_clip.create_model(name, pretrained=pretrained, force_quick_gelu=quick))
