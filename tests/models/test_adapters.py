"""Adapters: nothing changes at first, a part of their own, weights keep their names, what is frozen stays as it was."""

from __future__ import annotations

import pytest
import torch

from modalign.errors import ModalignError
from modalign.models.freezing import frozen_digest, plan_freeze
from modalign.models.language_model import load_language_model
from modalign.models.parts import count_parameters, load_parts, state_by_part

LLAMA = {
    "model_type": "llama", "vocab_size": 14, "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 4, "max_position_embeddings": 64,
}  # fmt: skip


def adapted(**lora):
    torch.manual_seed(0)
    return load_language_model(LLAMA, lora={"rank": 2, **lora})


def plain():
    torch.manual_seed(0)
    return load_language_model(LLAMA)


def test_at_first_nothing_changes():
    x = torch.randn(2, 5, 24)
    assert torch.equal(adapted().hidden(x), plain().hidden(x))


def test_weights_keep_their_names_in_checkpoints_with_and_without_adapters():
    with_adapters, without = adapted().state_dict(), plain().state_dict()
    assert [name for name in with_adapters if "lora_" not in name] == list(without)
    model = adapted()
    changed = {name: tensor + 1 for name, tensor in without.items()}
    missing, unexpected = model.load_state_dict(changed, strict=False)
    assert not unexpected
    assert all("lora_" in name for name in missing)
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in changed.items())


def test_a_whole_state_goes_there_and_back_strictly():
    one, two = adapted(), adapted()
    for parameter in one.parameters():
        torch.nn.init.normal_(parameter)
    two.load_state_dict(one.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_adapters_are_a_part_of_their_own(make_model):
    model = make_model(language_model=adapted(targets=["q_proj", "v_proj"]))
    counts = count_parameters(model)
    assert counts["llm.lora"] == 2 * 2 * (2 * 24 + 24 * 2)  # layers x maps x (A and B)
    assert counts["llm"] == count_parameters(make_model(language_model=plain()))["llm"]
    assert plan_freeze(model, ["llm.lora"]).trains == ("llm.lora",)
    assert set(plan_freeze(model, ["llm"]).trains) == {"llm", "llm.lora"}
    states = state_by_part(model, ["llm", "llm.lora"])
    assert len(states["llm.lora"]) == 8
    assert not [name for name in states["llm"] if "lora" in name]
    load_parts(model, states)


def test_training_moves_the_adapters_alone(make_model, make_batch, make_media):
    model = make_model(language_model=adapted(dropout=0.5))
    plan = plan_freeze(model, ["llm.lora"])
    plan.apply(model)
    model.train()
    before = frozen_digest(model, plan.frozen)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model(make_batch([[("<bos>", 0), "image", ("a red cube", 1)]], make_media("image"))).loss_sum.backward()
        optimizer.step()
    assert frozen_digest(model, plan.frozen) == before
    assert "llm" in before
    moved = [name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    assert moved
    assert all("lora_" in name for name in moved)


def test_the_dropout_of_adapters_is_on_while_the_frozen_model_around_them_is_in_eval_mode(make_model):
    model = make_model(language_model=adapted(dropout=0.5))
    plan_freeze(model, ["llm.lora"]).apply(model)
    model.train()
    layer = model.llm.model.model.layers[0].self_attn.q_proj
    assert layer.lora_dropout["default"].training
    assert not layer.training
    assert not model.llm.model.model.layers[0].training
    assert not model.eval().llm.model.model.layers[0].self_attn.q_proj.lora_dropout["default"].training


def test_what_cannot_be_meant_is_told():
    with pytest.raises(ModalignError, match=r"unknown setting 'r' in model\.language_model\.lora: .*rank"):
        load_language_model(LLAMA, lora={"r": 2})
    with pytest.raises(ModalignError, match="rank must be a whole number from 1"):
        load_language_model(LLAMA, lora={"rank": 0})
    with pytest.raises(ModalignError, match=r"unknown linear map 'q_prj'.*did you mean 'q_proj'"):
        load_language_model(LLAMA, lora={"targets": ["q_prj"]})
