"""Which tensors of the released checkpoint make up which tensor of ours, and how they are laid out in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from modalign.models.published.rotary import halves_to_neighbours, neighbours_to_halves
from modalign.models.published.sizes import PublishedSizes

PREFIX = "llma."
TOWER, PROJECTOR, VISUAL = "clip", "upm", "visual"

# Our name of each modality, and the released one.
RELEASED = {
    "image": "image",
    "video": "video",
    "audio": "audio",
    "point": "point",
    "depth": "rgbd",
    "normal": "rgbn",
    "imu": "imu",
    "fmri": "fmri",
}
# Modalities with a tokenizer and positions of their own, and our name of the tokenizer's layer.
OWN_LAYERS = {"audio": "conv", "point": "embed", "imu": "conv", "fmri": "linears.default"}
# The released name of that layer, where it is not the modality's alone.
RELEASED_LAYERS = {"point": "point.conv1"}
NO_BIAS = {"imu"}
# What a released file may hold beside the model: the rest of CLIP's text side, and tables that are computed.
BESIDE = ("llma.clip.", "llma.rope.", "llma.freqs_cis")


@dataclass(frozen=True)
class Entry:
    """One tensor of ours; `split` gives the released tensors, in the order of `released`, and `join` undoes it."""

    ours: str
    released: tuple[str, ...]
    join: Callable[[list[Tensor]], Tensor]
    split: Callable[[Tensor], list[Tensor]]


def entries(sizes: PublishedSizes) -> list[Entry]:
    """Every tensor of our model, with where it comes from; two of ours may share a released one."""
    return [
        *_language_model(sizes),
        *_tower(sizes),
        *_tokenizers(sizes),
        *_experts(sizes),
        *_ports(),
    ]


def _same(ours: str, released: str) -> Entry:
    return Entry(ours, (PREFIX + released,), lambda ts: ts[0], lambda t: [t])


def _with_ones(ours: str, released: str, before: int = 0, after: int = 0) -> Entry:
    """Axes of length one that the released tensor has in front or behind."""
    return Entry(
        ours,
        (PREFIX + released,),
        lambda ts: ts[0].reshape(ts[0].shape[before : ts[0].dim() - after]),
        lambda t: [t.reshape((1,) * before + tuple(t.shape) + (1,) * after)],
    )


def _stacked(ours: str, *released: str) -> Entry:
    """Rows of several released tensors in one of ours."""
    return Entry(ours, tuple(PREFIX + r for r in released), torch.cat, lambda t: list(t.chunk(len(released))))


def _language_model(sizes: PublishedSizes) -> Iterator[Entry]:
    head = sizes.llm_dim // sizes.llm_heads
    ours = "llm.model.model."
    yield _same(ours + "embed_tokens.weight", "tok_embeddings.weight")
    yield _same(ours + "norm.weight", "norm.weight")
    yield _same("llm.model.lm_head.weight", "output.weight")
    for i in range(sizes.llm_layers):
        layer, old = f"{ours}layers.{i}.", f"layers.{i}."
        for theirs, name in {"wq": "q_proj", "wk": "k_proj"}.items():
            yield Entry(
                f"{layer}self_attn.{name}.weight",
                (f"{PREFIX}{old}attention.{theirs}.weight",),
                lambda ts: neighbours_to_halves(ts[0], head),
                lambda t: [halves_to_neighbours(t, head)],
            )
        yield _same(layer + "self_attn.v_proj.weight", old + "attention.wv.weight")
        yield _same(layer + "self_attn.o_proj.weight", old + "attention.wo.weight")
        yield _same(layer + "input_layernorm.weight", old + "attention_norm.weight")
        yield _same(layer + "post_attention_layernorm.weight", old + "ffn_norm.weight")
        for theirs, name in {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}.items():
            yield _same(f"{layer}mlp.{name}.weight", f"{old}feed_forward.{theirs}.weight")


def _tower(sizes: PublishedSizes) -> Iterator[Entry]:
    ours, theirs = f"encoders.{TOWER}.", "clip.visual."
    for name in ("class_embedding", "positional_embedding"):
        yield _same(ours + name, theirs + name)
    yield _same(ours + "patch_weight", theirs + "conv1.weight")
    yield _same(ours + "projection", theirs + "proj")
    modules = ["ln_pre", "ln_post"]
    for i in range(sizes.clip_layers):
        block = f"transformer.resblocks.{i}."
        modules += [block + m for m in ("ln_1", "ln_2", "attn.out_proj", "mlp.c_fc", "mlp.c_proj")]
        for name in ("in_proj_weight", "in_proj_bias"):
            yield _same(f"{ours}{block}attn.{name}", f"{theirs}{block}attn.{name}")
    for module in modules:
        for kind in ("weight", "bias"):
            yield _same(f"{ours}{module}.{kind}", f"{theirs}{module}.{kind}")


def _tokenizers(sizes: PublishedSizes) -> Iterator[Entry]:
    yield _same(f"tokenizers.{VISUAL}.conv.weight", "clip.visual.conv1.weight")
    for modality, layer in OWN_LAYERS.items():
        released = RELEASED[modality]
        yield _same(f"positions.{modality}.tokens", f"positional_embedding.{released}")
        for kind in ("weight",) if modality in NO_BIAS else ("weight", "bias"):
            ours = f"tokenizers.{modality}.{layer}.{kind}"
            yield _tokenizer(sizes, ours, f"conv1.{RELEASED_LAYERS.get(modality, released)}.{kind}")


def _tokenizer(sizes: PublishedSizes, ours: str, released: str) -> Entry:
    """Two layouts differ: points have a 1x1 convolution, voxels give [width, tokens], ours gives [tokens, width]."""
    if ".embed.weight" in ours:
        return _with_ones(ours, released, after=2)
    if ".linears." not in ours:
        return _same(ours, released)
    width, tokens = sizes.clip_width, sizes.fmri_tokens
    return Entry(
        ours,
        (PREFIX + released,),
        lambda ts: ts[0].unflatten(0, (width, tokens)).transpose(0, 1).flatten(0, 1),
        lambda t: [t.unflatten(0, (tokens, width)).transpose(0, 1).flatten(0, 1)],
    )


def _experts(sizes: PublishedSizes) -> Iterator[Entry]:
    for k in range(sizes.num_experts):
        for i in range(sizes.expert_layers):
            ours, theirs = f"projectors.{PROJECTOR}.experts.{k}.blocks.{i}.", f"resample_layers.{k}.{i}."
            yield _same(ours + "attention_norm.weight", theirs + "attention_norm.weight")
            yield _same(ours + "feed_norm.weight", theirs + "ffn_norm.weight")
            yield _stacked(ours + "attention.qkv.weight", *(f"{theirs}attention.w{x}.weight" for x in "qkv"))
            yield _same(ours + "attention.out.weight", theirs + "attention.wo.weight")
            yield _stacked(ours + "feed.gate_up.weight", *(f"{theirs}feed_forward.w{x}.weight" for x in "13"))
            yield _same(ours + "feed.down.weight", theirs + "feed_forward.w2.weight")


def _ports() -> Iterator[Entry]:
    for modality, released in RELEASED.items():
        port, router = f"projectors.{PROJECTOR}.ports.{modality}.", f"projectors.{PROJECTOR}.router.{modality}."
        yield _with_ones(port + "queries", f"resample_tokens.{released}", before=1)
        for tag in ("start_tag", "end_tag"):
            yield _with_ones(port + tag, f"{tag}.{released}", before=2)
        for kind in ("weight", "bias"):
            for side, number in (("in", 1), ("out", 2)):
                yield _same(f"{port}{side}_proj.{kind}", f"clip_proj{number}.{released}.0.{kind}")
                yield _same(f"{port}{side}_norm.{kind}", f"clip_proj{number}.{released}.1.{kind}")
            for layer in ("fc1", "fc2"):
                yield _same(f"{router}{layer}.{kind}", f"routers.{released}.{layer}.{kind}")
