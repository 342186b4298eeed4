"""The sizes of a released OneLLM model, by default those of OneLLM-7B, or read off a checkpoint's tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from torch import Tensor

from modalign.errors import ModalignError, unknown_name

# Keys that a description may carry beside the sizes.
_REMARKS = {"params"}


@dataclass(frozen=True)
class PublishedSizes:
    """Everything that is needed to build the model; the hidden sizes follow from `multiple_of` where they are 0."""

    clip_width: int = 1024
    clip_layers: int = 24
    clip_heads: int = 16
    clip_embed: int = 768
    clip_act: str = "quick_gelu"
    image_size: int = 224
    patch_size: int = 14
    num_experts: int = 3
    expert_layers: int = 8
    expert_heads: int = 16
    expert_hidden: int = 0
    num_query_tokens: int = 30
    llm_dim: int = 4096
    llm_layers: int = 32
    llm_heads: int = 32
    llm_hidden: int = 0
    vocab_size: int = 32000
    max_positions: int = 4096
    multiple_of: int = 256
    norm_eps: float = 1e-5
    audio_mels: int = 128
    audio_frames: int = 1024
    audio_kernel: int = 16
    audio_stride: int = 10
    num_points: int = 8192
    point_groups: int = 1024
    point_group_size: int = 32
    point_channels: int = 6
    imu_channels: int = 6
    imu_steps: int = 400
    imu_kernel: int = 10
    fmri_voxels: int = 15724
    fmri_tokens: int = 8

    @property
    def num_patches(self) -> int:
        """Patches of a picture."""
        return (self.image_size // self.patch_size) ** 2

    def hidden_of(self, width: int, stated: int) -> int:
        """The released code's SwiGLU size: two thirds of four times the width, rounded up to `multiple_of`."""
        return stated or self.multiple_of * math.ceil(int(2 * 4 * width / 3) / self.multiple_of)


def read_sizes(description: Mapping[str, Any]) -> PublishedSizes:
    """Sizes from a description; what it does not name is as in OneLLM-7B."""
    known = {f.name for f in fields(PublishedSizes)}
    for name in description:
        if name not in known | _REMARKS:
            raise unknown_name("size", name, known, "the description of a released model")
    return PublishedSizes(**{name: value for name, value in description.items() if name in known})


def infer_sizes(state: Mapping[str, Tensor], stated: Mapping[str, Any] | None = None) -> PublishedSizes:
    """Sizes from a released state dict; what tensors cannot tell (heads, activation) is `stated` or conventional.

    By convention CLIP's heads are 64 wide, the language model's 128, and an expert has 16 of them.
    """
    visual, layer = "llma.clip.visual.", "llma.layers.0."
    expert = "llma.resample_layers.0.0."
    width = _shape(state, visual + "class_embedding")[0]
    patch = _shape(state, visual + "conv1.weight")[-1]
    num_patches = _shape(state, visual + "positional_embedding")[0] - 1
    vocab_size, llm_dim = _shape(state, "llma.tok_embeddings.weight")
    audio_kernel = _shape(state, "llma.conv1.audio.weight")[-1]
    imu_channels, imu_kernel = _shape(state, "llma.conv1.imu.weight")[1:]
    fmri_out, fmri_voxels = _shape(state, "llma.conv1.fmri.weight")
    found = PublishedSizes(
        clip_width=width,
        clip_layers=_count(state, visual + "transformer.resblocks."),
        clip_heads=max(1, width // 64),
        clip_embed=_shape(state, visual + "proj")[1],
        image_size=math.isqrt(num_patches) * patch,
        patch_size=patch,
        num_experts=_count(state, "llma.resample_layers."),
        expert_layers=_count(state, "llma.resample_layers.0."),
        expert_hidden=_shape(state, expert + "feed_forward.w1.weight")[0],
        num_query_tokens=_shape(state, "llma.resample_tokens.image")[1],
        llm_dim=llm_dim,
        llm_layers=_count(state, "llma.layers."),
        llm_heads=max(1, llm_dim // 128),
        llm_hidden=_shape(state, layer + "feed_forward.w1.weight")[0],
        vocab_size=vocab_size,
        audio_kernel=audio_kernel,
        point_groups=_shape(state, "llma.positional_embedding.point")[0] - 1,
        point_channels=_shape(state, "llma.conv1.point.conv1.weight")[1],
        imu_channels=imu_channels,
        imu_steps=_shape(state, "llma.positional_embedding.imu")[0] - 2 + imu_kernel,
        imu_kernel=imu_kernel,
        fmri_voxels=fmri_voxels,
        fmri_tokens=fmri_out // width,
    )
    return replace(found, **_stated(stated or {}))


def _stated(stated: Mapping[str, Any]) -> dict[str, Any]:
    sizes = read_sizes(stated)
    return {name: getattr(sizes, name) for name in stated if name not in _REMARKS}


def _shape(state: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    if name not in state:
        raise ModalignError(f"this is no released OneLLM checkpoint: it has no tensor {name}")
    return tuple(state[name].shape)


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    return len({name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)})
