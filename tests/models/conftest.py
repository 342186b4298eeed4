"""Tiny parts of every kind, and batches of real shape, for the tests of the models."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import PreTrainedTokenizerFast

from modalign.models.aligned import AlignedModel, Path
from modalign.models.encoders.open_clip_tower import OpenClipTower
from modalign.models.fusion.prefix import PrefixFusion
from modalign.models.language_model import CausalLanguageModel, load_language_model
from modalign.models.positions import Positions
from modalign.models.projectors.upm import UniversalProjector
from modalign.models.text_tokenizer import TextTokenizer
from modalign.models.tokenizers.patch import PatchTokenizer
from modalign.models.tokenizers.points import PointTokenizer
from modalign.models.tokenizers.vector import VectorTokenizer
from modalign.types import Batch, MediaBatch, Segment

WORDS = ["<unk>", "<bos>", "<eos>", "###", "a", "red", "blue", "cube", "ball", "is", "seen", "left", "right", "."]
WIDTH, LLM_WIDTH, QUERIES = 16, 24, 3


@pytest.fixture(autouse=True)
def _one_thread_one_seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def tiny_llm(**changes) -> CausalLanguageModel:
    config = {
        "model_type": "llama",
        "vocab_size": len(WORDS),
        "hidden_size": LLM_WIDTH,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "initializer_range": 0.3,
    }
    return load_language_model({**config, **changes})


def tiny_tower(**changes) -> OpenClipTower:
    vision = {"image_size": 16, "patch_size": 8, "width": WIDTH, "layers": 2, "head_width": 4}
    return OpenClipTower({"embed_dim": 8, "vision_cfg": {**vision, **changes}})


def tiny_upm(modalities: Sequence[str], num_experts: int = 3, **changes) -> UniversalProjector:
    settings = {"expert_layers": 2, "num_heads": 4, "hidden": 24, "num_queries": QUERIES, "query_std": 1.0}
    return UniversalProjector(
        WIDTH, WIDTH, LLM_WIDTH, num_experts=num_experts, modalities=modalities, **{**settings, **changes}
    )


def tiny_text_tokenizer() -> TextTokenizer:
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<bos>", eos_token="<eos>", unk_token="<unk>")
    return TextTokenizer(fast)


def tiny_model(
    modalities: Sequence[str] = ("image", "cloud", "voxels"), num_experts: int = 3, fusion=None, **changes
) -> AlignedModel:
    """Image through patches and tower, clouds through points and tower, voxels without an encoder."""
    tokenizers: dict[str, nn.Module] = {
        "visual": PatchTokenizer(WIDTH, 8, 16),
        "cloud": PointTokenizer(WIDTH, 24, 6, 4),
        "voxels": VectorTokenizer(WIDTH, 4, {"a": 5, "b": 7}),
    }
    positions = {
        "image": Positions(4, WIDTH, learned=False),
        "cloud": Positions(6, WIDTH, learned=True),
        "voxels": Positions(4, WIDTH, learned=True),
    }
    paths = {
        "image": Path("visual", "clip", "upm"),
        "cloud": Path("cloud", "clip", "upm"),
        "voxels": Path("voxels", None, "upm"),
    }
    used = {paths[m].tokenizer for m in modalities}
    parts = {
        "paths": {m: paths[m] for m in modalities},
        "tokenizers": {name: t for name, t in tokenizers.items() if name in used},
        "positions": {m: positions[m] for m in modalities},
        "encoders": {"clip": tiny_tower()},
        "projectors": {"upm": tiny_upm(modalities, num_experts)},
        "fusion": fusion or PrefixFusion(),
        "language_model": tiny_llm(),
        "text_tokenizer": tiny_text_tokenizer(),
    }
    return AlignedModel(**{**parts, **changes})


def media_of(*modalities: str, count: int = 1) -> dict[str, MediaBatch]:
    shapes = {"image": (3, 16, 16), "cloud": (24, 6), "voxels": (7,), "video": (3, 3, 16, 16)}
    variants = {"voxels": ("a", "b")}
    return {
        m: MediaBatch(
            torch.randn(count, *shapes[m]), tuple(variants[m][i % 2] for i in range(count)) if m in variants else ()
        )
        for m in modalities
    }


def batch_of(samples: Sequence[Sequence[str | tuple[str, float]]], media: dict[str, MediaBatch]) -> Batch:
    """Samples as lists of a modality's name, or of words with the weight that they carry; media are taken in turn."""
    taken = dict.fromkeys(media, 0)
    ids: list[int] = []
    weights: list[float] = []
    layout = []
    for sample in samples:
        segments = []
        for part in sample:
            if isinstance(part, str):
                segments.append(Segment(part, taken[part]))
                taken[part] += 1
                continue
            words, weight = part
            new = [WORDS.index(w) for w in words.split()]
            segments.append(Segment(None, len(ids), len(new)))
            ids += new
            weights += [weight] * len(new)
        layout.append(tuple(segments))
    keys = tuple(f"s{i}" for i in range(len(samples)))
    return Batch(
        media, tuple(layout), torch.tensor(ids, dtype=torch.long), torch.tensor(weights, dtype=torch.float32), keys
    )


@pytest.fixture
def make_llm() -> Callable[..., CausalLanguageModel]:
    return tiny_llm


@pytest.fixture
def make_tower() -> Callable[..., OpenClipTower]:
    return tiny_tower


@pytest.fixture
def make_upm() -> Callable[..., UniversalProjector]:
    return tiny_upm


@pytest.fixture
def make_model() -> Callable[..., AlignedModel]:
    return tiny_model


@pytest.fixture
def make_media() -> Callable[..., dict[str, MediaBatch]]:
    return media_of


@pytest.fixture
def make_batch() -> Callable[..., Batch]:
    return batch_of


@pytest.fixture
def text_tokenizer() -> TextTokenizer:
    return tiny_text_tokenizer()
