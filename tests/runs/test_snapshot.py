"""What was copied stays what it was, whatever becomes of the original."""

from collections import OrderedDict

import pytest
import torch

from modalign.runs.snapshot import Snapshot


def contents(device="cpu"):
    weight = torch.nn.Parameter(torch.arange(6.0, device=device).reshape(2, 3))
    return {
        "state_dict": OrderedDict(weight=weight, turned=weight.t(), half=torch.ones(3, dtype=torch.bfloat16)),
        "optimizer_states": [{"state": {"weight": {"step": torch.tensor(4.0), "exp_avg": torch.ones(2, 3)}}}],
        "rates": [(1e-3, None)],
        "step": 4,
    }


def test_a_copy_shares_nothing_that_changes():
    original = contents()
    copied = Snapshot(original).arrive()
    original["state_dict"]["weight"].data.zero_()
    original["optimizer_states"][0]["state"]["weight"]["step"] += 1
    original["optimizer_states"][0]["state"]["bias"] = {}
    original["rates"].append((0.0, None))
    expected = contents()
    assert type(copied["state_dict"]) is OrderedDict
    for name, tensor in expected["state_dict"].items():
        assert torch.equal(copied["state_dict"][name], tensor)
        assert copied["state_dict"][name].dtype == tensor.dtype
        assert not copied["state_dict"][name].requires_grad
    assert copied["optimizer_states"][0]["state"].keys() == {"weight"}
    assert copied["optimizer_states"][0]["state"]["weight"]["step"] == 4
    assert copied["rates"] == [(1e-3, None)]
    assert copied["step"] == 4


def test_what_is_not_plain_is_left_for_the_writer_to_refuse():
    strange = object()
    assert Snapshot({"a": strange}).arrive()["a"] is strange


@pytest.mark.skipif(not torch.cuda.is_available(), reason="copies from a GPU need one")
def test_a_gpu_copies_before_it_does_what_it_is_asked_next():
    large = torch.full((1 << 26,), 1.0, device="cuda")
    copied = Snapshot({"weights": {"large": large, "small": large[:3].t()}})
    for _ in range(20):
        large.add_(1.0)
    arrived = copied.arrive()["weights"]
    assert not arrived["large"].is_cuda
    assert bool((arrived["large"] == 1.0).all())
    assert arrived["small"].tolist() == [1.0, 1.0, 1.0]
