"""What the last layer computes only where a state is wanted is what it would have computed everywhere."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, Gemma3Config

from modalign.models import last_layer
from modalign.models.blocks import large_blocks, recompute
from modalign.models.fusion.cross_attention import GatedCrossAttentionFusion
from modalign.models.language_model import CausalLanguageModel, load_language_model
from modalign.models.last_layer import MOST, narrowed_modules

COMMON = {
    "vocab_size": 14, "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "initializer_range": 0.3, "max_position_embeddings": 64,
}  # fmt: skip
KINDS = {
    "llama": {},
    "qwen3": {"head_dim": 8},
    "mistral": {"sliding_window": 4},
    "phi3": {"pad_token_id": 0},
    "gemma3_text": {"head_dim": 8, "sliding_window": 4, "layer_types": ["full_attention", "sliding_attention"]},
    "mixtral": {"num_experts_per_tok": 2, "num_local_experts": 4},
    "qwen2_moe": {
        "num_experts_per_tok": 2, "num_experts": 4, "moe_intermediate_size": 8, "shared_expert_intermediate_size": 8,
    },
    "olmo": {"clip_qkv": 0.5},  # changes queries in place
    "gpt2": {"resid_pdrop": 0.0, "attn_pdrop": 0.0, "embd_pdrop": 0.0},
}  # fmt: skip
# Models whose attention has its maps under other names compute the whole layer.
WHOLE = {"phi3", "gpt2"}
SAMPLES = [
    [("blue ball is seen", 0), "image", ("red cube", 1), ("is seen left .", 0)],
    ["image", ("a", 0), ("ball", 1)],
    [("red cube blue ball left right .", 0), "image", ("is red", 1)],
]


def crossed():
    fusion = GatedCrossAttentionFusion(24, 24, sites=range(2), num_heads=2, hidden=16)
    for block in fusion.blocks.values():
        torch.nn.init.constant_(block.gate_attention, 1.0)
        torch.nn.init.constant_(block.gate_feed, 0.5)
    return fusion


@pytest.fixture
def batch(make_media, make_batch):
    return make_batch(SAMPLES, make_media("image", count=3))


def gradients(model, batch):
    model.zero_grad()
    output = model.loss(batch)
    output.loss_sum.backward()
    return output, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same(model, batch, monkeypatch, most=1e-5):
    """Loss and gradients are those of a whole last layer, which takes more arithmetic; returns both counts of FLOPs."""
    counts, found = [], []
    for share in (MOST, 0.0):
        monkeypatch.setattr(last_layer, "MOST", share)
        with FlopCounterMode(display=False) as counter:
            found.append(gradients(model, batch))
        counts.append(counter.get_total_flops())
    (output, narrowed), (expected, wanted) = found
    torch.testing.assert_close(output.loss_sum, expected.loss_sum, rtol=most, atol=0)
    torch.testing.assert_close(output.per_sample_sum, expected.per_sample_sum, rtol=most, atol=1e-6)
    assert narrowed.keys() == wanted.keys()
    length = sum(gradient.double().pow(2).sum() for gradient in wanted.values()).sqrt()
    for name, gradient in wanted.items():
        apart = (narrowed[name].double() - gradient.double()).norm()
        assert apart <= most * max(gradient.double().norm(), 0.01 * length), f"{name}: {apart}"
    return counts


@pytest.mark.parametrize("attention", ["sdpa", "packed"])
@pytest.mark.parametrize("fusion", [None, crossed], ids=["prefix", "crossed"])
@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_every_gradient_are_those_of_the_whole_layer(kind, fusion, attention, make_model, batch, monkeypatch):
    llm = load_language_model({"model_type": kind, **COMMON, **KINDS[kind]}, attention=attention)
    model = make_model(("image",), language_model=llm, fusion=fusion and fusion())
    few, all_ = assert_same(model, batch, monkeypatch)
    assert (few == all_) if kind in WHOLE else (few < all_)


def test_modules_of_the_last_layer_see_the_wanted_positions_and_no_other_layer_s(make_model, batch):
    model = make_model(("image",))
    seen = {}

    def note(name):
        return lambda _, args: seen.update({name: args[0].shape[:-1]})

    for name, module in model.llm.layers.named_modules():
        if name.endswith(("q_proj", "k_proj", "o_proj", "mlp")):
            module.register_forward_pre_hook(note(name))
    composed = model.compose(batch)
    wanted = sum(map(len, composed.places))
    model.language_loss(composed)
    all_of_them = seen["0.mlp"]
    assert wanted == 5 < all_of_them.numel()
    assert {name for name, shape in seen.items() if shape == (1, wanted)} == {
        "1.self_attn.q_proj", "1.self_attn.o_proj", "1.mlp",
    }  # fmt: skip
    assert {shape for shape in seen.values()} == {(1, wanted), all_of_them}


def test_states_where_they_are_wanted_are_those_of_all_and_without_a_wish_all_count(make_llm):
    llm = make_llm()
    x = torch.randn(2, 6, 24)
    whole = llm.hidden(x)
    torch.testing.assert_close(llm.hidden(x, wanted=[[2, 5], [0]])[[0, 0, 1], [2, 5, 0]], whole[[0, 0, 1], [2, 5, 0]])
    assert torch.equal(llm.hidden(x), whole)
    # Of nothing, or nearly all, nothing is taken out.
    assert torch.equal(llm.hidden(x, wanted=[[], []]), whole)
    assert torch.equal(llm.hidden(x, wanted=[range(6), range(5)]), whole)


def test_a_layer_that_is_computed_again_computes_the_same(make_model, batch, monkeypatch):
    model = make_model(("image",), fusion=crossed())
    _, wanted = gradients(model, batch)
    recompute(large_blocks(model))
    _, found = gradients(model, batch)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    few, all_ = assert_same(model, batch, monkeypatch)
    assert few < all_


def test_adapters_train_as_in_a_whole_layer(make_model, batch, monkeypatch):
    lora = {"rank": 2, "alpha": 4.0, "targets": "all-linear"}
    llm = load_language_model({"model_type": "llama", **COMMON}, lora=lora)
    for name, parameter in llm.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    model = make_model(("image",), language_model=llm)
    few, all_ = assert_same(model, batch, monkeypatch)
    assert few < all_


def test_a_copy_of_a_model_has_its_own(make_model, batch):
    model = make_model(("image",))
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.llm.layers[-1].parameters():
            parameter.add_(0.1)
    loss = model.loss(batch).loss_sum
    other = twin.loss(batch).loss_sum
    assert loss != other
    del model
    assert torch.equal(twin.loss(batch).loss_sum, other)


def test_a_failure_within_leaves_nothing_behind(make_llm):
    llm = make_llm()
    x = torch.randn(1, 6, 24)
    whole = llm.hidden(x)

    def fail(*_):
        raise RuntimeError("inside")

    handle = llm.layers[-1].mlp.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="inside"):
        llm.hidden(x, wanted=[[2]])
    handle.remove()
    assert torch.equal(llm.hidden(x), whole)


def test_a_layer_that_mixes_positions_elsewhere_is_left_whole(make_llm):
    layer = make_llm().layers[-1]
    assert narrowed_modules(layer) == [layer.self_attn.q_proj, layer.self_attn.o_proj, layer.mlp]
    layer.convolution = torch.nn.Conv1d(4, 4, 3)
    assert narrowed_modules(layer) == []
    del layer.convolution
    layer.mlp = type("DogeCDMoE", (torch.nn.Module,), {})()
    assert narrowed_modules(layer) == []


def test_the_last_layer_of_a_model_with_a_tower_for_pictures_is_the_text_s():
    text = COMMON | {"head_dim": 8, "num_hidden_layers": 3}
    tower = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2,
             "image_size": 28, "patch_size": 14}  # fmt: skip
    config = Gemma3Config(text_config=text, vision_config=tower)
    llm = CausalLanguageModel(AutoModelForCausalLM.from_config(config))
    assert llm.layers is llm.model.get_decoder().layers
