"""The optimizer's state by name: other orders of parameters, and states of earlier versions, are taken."""

import pytest
import torch
from torch import nn

from modalign.errors import ModalignError
from modalign.stages.optimizer_state import keep_by_name


def trained(order, first=True):
    """A model of three layers and its optimizer after one step, one group a layer in the given order."""
    torch.manual_seed(0)
    model = nn.ModuleDict({name: nn.Linear(2, 2) for name in ("a", "b", "c")})
    groups = [{"params": list(model[name].parameters()), "part": name, "lr": 0.1} for name in order]
    optimizer = torch.optim.AdamW(groups)
    keep_by_name(optimizer, model, first)
    model["a"](model["b"](torch.ones(1, 2))).sum().backward()
    optimizer.step()
    return model, optimizer


def moments(model, optimizer):
    return {n: optimizer.state[p]["exp_avg"] for n, p in model.named_parameters() if p in optimizer.state}


def test_a_state_speaks_of_names_and_of_what_has_been_stepped_alone():
    _, optimizer = trained("abc")
    state = optimizer.state_dict()
    assert set(state["state"]) == {"a.weight", "a.bias", "b.weight", "b.bias"}
    assert [group["params"] for group in state["param_groups"]][2] == ["c.weight", "c.bias"]


def test_a_state_finds_its_parameters_whatever_their_order():
    model, optimizer = trained("abc")
    optimizer.param_groups[0]["lr"] = 0.7
    other, later = trained("cab")
    before = {name: moment.clone() for name, moment in moments(model, optimizer).items()}
    for moment in moments(other, later).values():
        moment.zero_()
    later.load_state_dict(optimizer.state_dict())
    after = moments(other, later)
    assert after.keys() == before.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert {group["part"]: group["lr"] for group in later.param_groups} == {"a": 0.7, "b": 0.1, "c": 0.1}


def test_a_state_with_numbers_of_an_earlier_version_is_taken_as_it_is():
    model, optimizer = trained("abc")
    bare = torch.optim.AdamW([{"params": list(model[name].parameters())} for name in "abc"])
    bare.load_state_dict(
        {
            "state": {0: {k: v.clone() for k, v in optimizer.state[model["a"].weight].items()}},
            "param_groups": [{**group, "params": list(range(2 * i, 2 * i + 2))}
                             for i, group in enumerate(bare.state_dict()["param_groups"])],
        }
    )  # fmt: skip
    other, later = trained("abc")
    later.load_state_dict(bare.state_dict())
    assert torch.equal(later.state[other["a"].weight]["exp_avg"], optimizer.state[model["a"].weight]["exp_avg"])


def test_a_state_of_other_parameters_is_refused_by_name():
    _, optimizer = trained("abc")
    other, later = trained("ab")
    with pytest.raises(ModalignError, match=r"knows 6 parameters, the run's 4: they differ in c\.bias"):
        later.load_state_dict(optimizer.state_dict())
    assert other


def test_a_process_that_is_not_the_first_keeps_no_state_to_be_written():
    _, optimizer = trained("abc", first=False)
    assert optimizer.state_dict()["state"] == {}
