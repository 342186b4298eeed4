"""Compiled blocks: the same values to rounding, the same names, and nothing left behind."""

from __future__ import annotations

import pytest
import torch

from modalign.errors import ModalignError
from modalign.models import compiling
from modalign.models.blocks import large_blocks
from modalign.models.compiling import compiled_blocks
from modalign.models.freezing import plan_freeze


def gradients(model, batch):
    model.zero_grad(set_to_none=True)
    loss = model(batch).loss_sum
    loss.backward()
    return loss.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.slow
@pytest.mark.parametrize("trains", [["projectors", "tokenizers"], ["llm"]], ids=["frozen", "trained"])
def test_compiled_blocks_agree_with_plain_ones_whatever_the_lengths(trains, make_model, make_batch, make_media):
    model = make_model(["image"])
    plan_freeze(model, trains).apply(model)
    model.train()
    names = list(model.state_dict())
    for caption in ("a red cube", "a red cube a red cube a"):
        batch = make_batch([[("<bos>", 0), "image", (caption, 1)]], make_media("image"))
        loss, before = gradients(model, batch)
        with compiled_blocks(model):
            assert list(model.state_dict()) == names
            again, after = gradients(model, batch)
        torch.testing.assert_close(again, loss, rtol=1e-5, atol=1e-5)
        assert after.keys() == before.keys()
        for name, gradient in before.items():
            torch.testing.assert_close(after[name], gradient, rtol=1e-3, atol=1e-5)
    plain, unchanged = gradients(model, batch)
    assert torch.equal(plain, loss)
    assert all(torch.equal(unchanged[name], before[name]) for name in before)


def test_within_it_the_blocks_are_compiled_and_afterwards_no_more(make_model):
    model = make_model(["image"])
    with compiled_blocks(model):
        assert all(block._compiled_call_impl is not None for block in large_blocks(model))
    assert all(block._compiled_call_impl is None for block in large_blocks(model))
    with compiled_blocks(model, on=False):
        assert all(block._compiled_call_impl is None for block in large_blocks(model))


def test_without_a_compiler_one_line_says_what_to_do(make_model, monkeypatch, tmp_path):
    model = make_model(["image"])
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert not compiling.has_compiler()
    with (
        pytest.raises(ModalignError, match=r"^trainer.compile=blocks needs a C\+\+ compiler .* trainer.compile=off$"),
        compiled_blocks(model),
    ):
        pass
