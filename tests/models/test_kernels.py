"""What a manifest says of attention kernels is what parts take."""

from __future__ import annotations

import torch

from modalign.models.kernels import kernels
from modalign.models.language_model import load_language_model


def test_every_part_that_attends_is_named_with_its_kernel(make_model):
    model = make_model(["image"])
    told = kernels(model, "cpu", torch.float32)
    chosen = "plain up to 64 tokens, fused beyond"
    experts = {f"projectors.upm.experts.{k}": chosen for k in range(3)}
    assert told == {"encoders.clip": f"{chosen}; where nothing before it trains, torch's own", "llm": "sdpa", **experts}
    half = kernels(model, "cpu", torch.bfloat16)
    assert half["projectors.upm.experts.0"] == f"{chosen}, in float32"
    assert kernels(model, "cuda", torch.bfloat16)["projectors.upm.experts.0"] == "fused"


def test_a_packed_language_model_names_the_kernel_of_its_samples(make_model):
    config = {"model_type": "llama", "vocab_size": 14, "hidden_size": 24, "num_attention_heads": 4}
    packed = load_language_model({**config, "num_hidden_layers": 1, "intermediate_size": 32}, attention="packed")
    model = make_model(["image"], language_model=packed)
    assert kernels(model, "cpu", torch.float32)["llm"] == "packed, fused, each sample"
