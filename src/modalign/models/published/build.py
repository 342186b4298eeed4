"""Our model with the options under which it is the released one: the values are the code's, not the paper's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import nn

from modalign.models.aligned import AlignedModel, Path
from modalign.models.encoders.open_clip_tower import OpenClipTower
from modalign.models.fusion.prefix import PrefixFusion
from modalign.models.language_model import CausalLanguageModel, load_language_model
from modalign.models.positions import Positions
from modalign.models.projectors.upm import UniversalProjector
from modalign.models.published.names import OWN_LAYERS, PROJECTOR, RELEASED, TOWER, VISUAL
from modalign.models.published.sizes import PublishedSizes, read_sizes
from modalign.models.seams import Tokenizer
from modalign.models.text_tokenizer import TextTokenizer
from modalign.models.tokenizers.patch import PatchTokenizer
from modalign.models.tokenizers.points import PointTokenizer
from modalign.models.tokenizers.series import SeriesTokenizer
from modalign.models.tokenizers.spectrogram import SpectrogramTokenizer
from modalign.models.tokenizers.vector import DEFAULT_VARIANT, VectorTokenizer


def build_published(
    sizes: PublishedSizes | Mapping[str, Any], text_tokenizer: TextTokenizer | None = None
) -> AlignedModel:
    """The released model with random weights.

    Pixels go through the tower's own patch convolution and positions; depth and normal are two frames (RGB and map);
    points are sampled on their last three channels; the router is sigmoid over the query tokens.
    """
    s = sizes if isinstance(sizes, PublishedSizes) else read_sizes(sizes)
    tokenizers = _tokenizers(s)
    positions = {
        modality: Positions(
            cast(Tokenizer, tokenizers[modality]).num_tokens if modality in OWN_LAYERS else s.num_patches,
            s.clip_width,
            learned=modality in OWN_LAYERS,
        )
        for modality in RELEASED
    }
    paths = {m: Path(m if m in OWN_LAYERS else VISUAL, TOWER, PROJECTOR) for m in RELEASED}
    projectors = {PROJECTOR: _projector(s)}
    model = AlignedModel(
        paths, tokenizers, positions, {TOWER: _tower(s)}, projectors, PrefixFusion(), _llama(s), text_tokenizer
    )
    return model.eval()


def _tokenizers(s: PublishedSizes) -> dict[str, nn.Module]:
    points = PointTokenizer(
        s.clip_width, s.num_points, s.point_groups, s.point_group_size, s.point_channels, "features", relative=False
    )
    return {
        VISUAL: PatchTokenizer(s.clip_width, s.patch_size, s.image_size),
        "audio": SpectrogramTokenizer(s.clip_width, s.audio_kernel, s.audio_stride, s.audio_mels, s.audio_frames),
        "point": points,
        "imu": SeriesTokenizer(s.clip_width, s.imu_channels, s.imu_steps, s.imu_kernel, 1, bias=False),
        "fmri": VectorTokenizer(s.clip_width, s.fmri_tokens, {DEFAULT_VARIANT: s.fmri_voxels}),
    }


def _tower(s: PublishedSizes) -> OpenClipTower:
    vision = {
        "image_size": s.image_size,
        "patch_size": s.patch_size,
        "width": s.clip_width,
        "layers": s.clip_layers,
        "head_width": s.clip_width // s.clip_heads,
    }
    return OpenClipTower({"embed_dim": s.clip_embed, "vision_cfg": vision, "quick_gelu": s.clip_act == "quick_gelu"})


def _projector(s: PublishedSizes) -> UniversalProjector:
    return UniversalProjector(
        width_in=s.clip_width,
        width=s.clip_width,
        width_out=s.llm_dim,
        num_experts=s.num_experts,
        expert_layers=s.expert_layers,
        num_heads=s.expert_heads,
        hidden=s.hidden_of(s.clip_width, s.expert_hidden),
        num_queries=s.num_query_tokens,
        modalities=list(RELEASED),
        router={"kind": "sigmoid", "over": "query", "hidden": 4 * s.clip_width},
        norm_eps=s.norm_eps,
    )


def _llama(s: PublishedSizes) -> CausalLanguageModel:
    config = {
        "model_type": "llama",
        "vocab_size": s.vocab_size,
        "hidden_size": s.llm_dim,
        "intermediate_size": s.hidden_of(s.llm_dim, s.llm_hidden),
        "num_hidden_layers": s.llm_layers,
        "num_attention_heads": s.llm_heads,
        "rms_norm_eps": s.norm_eps,
        "max_position_embeddings": s.max_positions,
        "tie_word_embeddings": False,
    }
    dtype = {torch.bfloat16: "bfloat16", torch.float16: "float16"}.get(torch.get_default_dtype(), "float32")
    return load_language_model(config, dtype=dtype)
