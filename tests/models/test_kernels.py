"""What a manifest says of attention kernels is what parts take."""

from __future__ import annotations

import torch

from modalign.models.kernels import kernels, large_maps
from modalign.models.language_model import load_language_model
from modalign.models.linear import MKL, ONEDNN, using
from modalign.models.packed_attention import SHORT


def test_every_part_that_attends_is_named_with_its_kernel(make_model):
    model = make_model(["image"])
    told = kernels(model, "cpu", torch.float32)
    few, chosen = (f"plain up to {tokens} tokens, fused beyond" for tokens in (64, 256))
    experts = {f"projectors.upm.experts.{k}": chosen for k in range(3)}
    assert told == {"encoders.clip": f"{few}; where nothing before it trains, torch's own", "llm": "sdpa", **experts}
    half = kernels(model, "cpu", torch.bfloat16)
    assert half["projectors.upm.experts.0"] == f"{chosen}, in float32"
    assert kernels(model, "cuda", torch.bfloat16)["projectors.upm.experts.0"] == "fused"
    compiled = kernels(model, "cpu", torch.float32, compiles=True)["projectors.upm.experts.0"]
    assert compiled == f"{chosen}; fused in compiled blocks"


def test_a_packed_language_model_names_the_kernel_of_its_samples(make_model):
    config = {"model_type": "llama", "vocab_size": 14, "hidden_size": 24, "num_attention_heads": 4}
    packed = load_language_model({**config, "num_hidden_layers": 1, "intermediate_size": 32}, attention="packed")
    model = make_model(["image"], language_model=packed)
    assert kernels(model, "cpu", torch.float32)["llm"] == f"packed, {SHORT}"


def test_the_library_of_linear_maps_is_told_where_one_is_chosen(make_model):
    wide = torch.nn.Sequential(torch.nn.Linear(512, 512))
    for name in (MKL, ONEDNN):
        with using(name):
            assert large_maps(wide, "cpu", torch.float32) == name
    assert large_maps(wide, "cpu", torch.bfloat16) is None
    assert large_maps(wide, "cuda", torch.float32) is None
    assert large_maps(make_model(["image"]), "cpu", torch.float32) is None
