"""Weights by folder: sizes that were planned with, tensors that are lost, few bits; each mismatch in one line."""

from __future__ import annotations

import importlib.util
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from modalign.errors import ModalignError
from modalign.models import pretrained
from modalign.models.freezing import frozen_digest, plan_freeze
from modalign.models.language_model import load_language_model
from modalign.models.parts import count_parameters

FEW_BITS = pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
TINY = {
    "model_type": "llama", "vocab_size": 8, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
    "num_attention_heads": 2,
}  # fmt: skip


@pytest.fixture
def folder(make_llm, tmp_path):
    """A small Llama as transformers writes it; 64 wide, which is a whole block of 4-bit numbers."""
    make_llm(hidden_size=64, intermediate_size=64, initializer_range=0.05).model.save_pretrained(tmp_path / "llm")
    return tmp_path / "llm"


def test_what_the_configuration_was_planned_with_must_be_what_is_there(folder):
    planned = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2}
    assert load_language_model(str(folder), architecture=planned).width == 64
    with pytest.raises(ModalignError, match=r"hidden_size 64, but model\.language_model\.architecture says 4096"):
        load_language_model(str(folder), architecture=planned | {"hidden_size": 4096})
    with pytest.raises(ModalignError, match=r"has model_type llama, .* says qwen2"):
        load_language_model(str(folder), architecture={"model_type": "qwen2"})


def test_sizes_are_read_from_a_folder_without_its_weights(folder):
    (folder / "model.safetensors").unlink()
    found = pretrained.architecture_of(str(folder), {"hidden_size": 64})
    with torch.device("meta"):
        assert load_language_model(found).width == 64
    with pytest.raises(ModalignError, match=r"has hidden_size 64, .* says 32"):
        pretrained.architecture_of(str(folder), {"hidden_size": 32})
    assert pretrained.architecture_of("nobody/nothing", {"hidden_size": 32}) == {"hidden_size": 32}


def test_weights_of_another_width_are_not_made_up(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": 32}))
    with pytest.raises(ModalignError, match=r"tensor .* has shape \(.*64.*\), its config.json asks for \(.*32"):
        load_language_model(str(folder))


def test_a_lost_tensor_is_not_made_up(folder):
    state = load_file(folder / "model.safetensors")
    del state["model.layers.1.mlp.up_proj.weight"]
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModalignError, match=r"lacks 1 tensors, the first is model\.layers\.1\.mlp\.up_proj\.weight"):
        load_language_model(str(folder))


def test_a_damaged_file_is_told_in_one_line(folder):
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:100])
    with pytest.raises(ModalignError, match=r"cannot load the language model '.*llm' \(model\.language_model"):
        load_language_model(str(folder))


@FEW_BITS
@pytest.mark.parametrize("bits", [8, 4])
def test_frozen_weights_in_few_bits_let_gradients_through(folder, bits, make_model, make_batch, make_media):
    exact, small = load_language_model(str(folder)), load_language_model(str(folder), bits=bits)
    x = torch.randn(2, 5, 64, requires_grad=True)
    small.hidden(x).square().sum().backward()
    assert x.grad.abs().sum() > 0
    difference = (small.hidden(x) - exact.hidden(x)).norm() / exact.hidden(x).norm()
    assert 0 < float(difference) < {8: 0.05, 4: 0.3}[bits]
    model = make_model(language_model=small, projectors={"upm": upm_of(64)})
    assert count_parameters(model)["llm"] == sum(p.numel() for p in exact.parameters())
    plan = plan_freeze(model, ["projectors"])
    plan.apply(model)
    before = frozen_digest(model, plan.frozen)
    model(make_batch([[("<bos>", 0), "image", ("a red cube", 1)]], make_media("image"))).loss_sum.backward()
    assert frozen_digest(model, plan.frozen) == before


def upm_of(width):
    from modalign.models.projectors.upm import UniversalProjector

    return UniversalProjector(16, 16, width, 1, 1, 4, 24, 3, ["image", "cloud", "voxels"])


@FEW_BITS
@pytest.mark.parametrize("bits", [8, 4])
def test_adapters_train_beside_weights_in_few_bits_which_cannot(folder, bits, make_model, make_batch, make_media):
    llm = load_language_model(str(folder), bits=bits, lora={"rank": 2})
    model = make_model(language_model=llm, projectors={"upm": upm_of(64)})
    with pytest.raises(ModalignError, match=r"llm cannot train: its weights are kept in few bits .*train llm\.lora"):
        plan_freeze(model, ["llm"]).apply(model)
    plan_freeze(model, ["llm.lora"]).apply(model)
    model(make_batch([[("<bos>", 0), "image", ("a red cube", 1)]], make_media("image"))).loss_sum.backward()
    moved = [name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    assert moved
    assert all("lora_B" in name for name in moved)  # A's gradient is zero while B is


def test_an_attention_that_is_not_known_is_told_in_one_line(folder):
    for source in (str(folder), TINY):
        with pytest.raises(ModalignError, match="flash_atention_2") as told:
            load_language_model(source, attention="flash_atention_2")
        assert "\n" not in str(told.value)


def test_sizes_that_no_model_can_have_are_told_in_one_line():
    with pytest.raises(ModalignError, match=r"source: .*hidden size \(8\) is not a multiple") as told:
        load_language_model({**TINY, "num_attention_heads": 3})
    assert "\n" not in str(told.value)


def test_few_bits_without_what_they_need_are_told_in_one_line(folder, monkeypatch):
    with pytest.raises(ModalignError, match="bits=3: 8 or 4"):
        load_language_model(str(folder), bits=3)
    with pytest.raises(ModalignError, match=r"bits=4: only weights that are read can be kept in few bits"):
        load_language_model({"model_type": "llama"}, bits=4)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModalignError, match=r"bits=4 needs bitsandbytes, which is not installed: pip install"):
        load_language_model(str(folder), bits=4)
