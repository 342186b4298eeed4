"""Blocks that are computed again in the backward pass: the same gradients, also in eval mode and behind hooks."""

from __future__ import annotations

import copy

import pytest
import torch

from modalign.models.blocks import experts, large_blocks, recompute, repeated_blocks
from modalign.models.freezing import plan_freeze


def all_blocks(model):
    return [*large_blocks(model), *(block for expert in experts(model) for block in repeated_blocks(expert))]


def gradients(model, batch):
    model.zero_grad(set_to_none=True)
    loss = model(batch).loss_sum
    loss.backward()
    return loss.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def test_the_blocks_of_a_model_are_those_of_its_language_model_and_encoders(make_model):
    model = make_model(["image"])
    assert large_blocks(model) == [*model.llm.layers, *model.encoders["clip"].transformer.resblocks]
    assert experts(model) == list(model.projectors["upm"].experts)
    assert repeated_blocks(torch.nn.Linear(2, 2)) == []


@pytest.mark.parametrize("trains", [["projectors", "tokenizers"], ["llm"]], ids=["frozen", "trained"])
def test_computing_blocks_again_changes_no_gradient_and_keeps_less(trains, make_model, make_batch, make_media):
    model = make_model(["image"])
    plan_freeze(model, trains).apply(model)
    model.train()
    batch = make_batch([[("<bos>", 0), "image", ("a red cube", 1)]], make_media("image"))
    names = list(model.state_dict())
    loss, before = gradients(model, batch)
    calls = []
    block = model.llm.layers[0]
    block.mlp.register_forward_pre_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    recompute(all_blocks(model))
    again, after = gradients(model, batch)
    assert calls == [True, True], "once forward, once more for the backward pass"
    assert torch.equal(loss, again)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert list(model.state_dict()) == names
    calls.clear()
    with torch.no_grad():
        model(batch)
    assert calls == [False]


def test_a_copy_of_a_model_computes_with_its_own_blocks(make_model, make_batch, make_media):
    model = make_model(["image"])
    batch = make_batch([[("<bos>", 0), "image", ("a red cube", 1)]], make_media("image"))
    recompute(all_blocks(model))
    recompute(all_blocks(model))  # once is enough: twice is no harm
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.llm.parameters():
            parameter.zero_()
    loss, before = gradients(model, batch)
    assert float(loss) != float(gradients(other, batch)[0])
    assert any(bool(gradient.any()) for name, gradient in before.items() if name.startswith("llm"))
