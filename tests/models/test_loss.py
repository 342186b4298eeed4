"""The loss at supervised positions alone is the loss."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from modalign.models import loss
from modalign.models.adapters import LoraSettings, insert_lora
from modalign.models.loss import FrozenHead, supervised_loss
from modalign.stages.forecast.meter import Meter


def example():
    hidden, head = torch.randn(3, 5, 8, requires_grad=True), nn.Linear(8, 11)
    labels = torch.randint(0, 11, (3, 5))
    labels[0, :3] = -100
    labels[2] = -100
    return hidden, head, labels, torch.rand(3, 5) + 0.5


def test_it_equals_weighted_cross_entropy_over_everything():
    hidden, head, labels, weights = example()
    output = supervised_loss(hidden, labels, weights, head)
    full = F.cross_entropy(head(hidden).flatten(0, 1), labels.flatten(), reduction="none", ignore_index=-100)
    full = full.view(3, 5) * weights
    valid = labels != -100
    torch.testing.assert_close(output.loss_sum, full.sum())
    torch.testing.assert_close(output.weight_sum, weights[valid].sum())
    torch.testing.assert_close(output.per_sample_sum, full.sum(dim=1))
    torch.testing.assert_close(output.per_sample_weight, (weights * valid).sum(dim=1))


def test_its_gradient_is_that_of_the_full_loss():
    hidden, head, labels, weights = example()
    (ours,) = torch.autograd.grad(supervised_loss(hidden, labels, weights, head).loss_sum, hidden)
    full = F.cross_entropy(head(hidden).flatten(0, 1), labels.flatten(), reduction="none", ignore_index=-100)
    (theirs,) = torch.autograd.grad((full.view(3, 5) * weights).sum(), hidden)
    torch.testing.assert_close(ours, theirs)


def test_the_head_sees_only_supervised_positions():
    hidden, head, labels, weights = example()
    seen = []
    supervised_loss(hidden, labels, weights, lambda h: seen.append(len(h)) or head(h))
    assert seen == [int((labels != -100).sum())]


def test_nothing_supervised_is_a_zero_that_can_be_differentiated():
    hidden, head, labels, weights = example()
    output = supervised_loss(hidden, torch.full_like(labels, -100), weights, head)
    output.loss_sum.backward()
    assert output.loss_sum == output.weight_sum == 0
    assert hidden.grad.abs().sum() == 0


@pytest.fixture
def parts(monkeypatch):
    """Two rows of logits at a time."""
    monkeypatch.setitem(loss.ROWS, "cpu", 2)


@pytest.mark.usefixtures("parts")
@pytest.mark.parametrize("bias", [True, False])
def test_by_parts_it_is_the_same_loss_with_the_same_gradient(bias):
    hidden, head, labels, weights = example()
    frozen = FrozenHead(head.weight, head.bias if bias else None)
    logits_fn = partial(F.linear, weight=frozen.weight, bias=frozen.bias)
    whole, parts = (supervised_loss(hidden, labels, weights, logits_fn, f) for f in (None, frozen))
    for name in ("loss_sum", "weight_sum", "per_sample_sum", "per_sample_weight"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name))
    assert not parts.per_sample_sum.requires_grad
    (ours,), (theirs,) = (torch.autograd.grad(3 * output.loss_sum, hidden) for output in (parts, whole))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.usefixtures("parts")
def test_by_parts_under_autocast_it_is_as_near_to_the_truth():
    hidden, head, labels, weights = example()
    head.requires_grad_(False)
    truth = torch.autograd.grad(supervised_loss(hidden, labels, weights, head).loss_sum, hidden)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = [supervised_loss(hidden, labels, weights, head, f) for f in (None, FrozenHead(head.weight, head.bias))]
        slopes = [torch.autograd.grad(output.loss_sum, hidden)[0] for output in found]
    torch.testing.assert_close(found[1].loss_sum, found[0].loss_sum, rtol=1e-3, atol=1e-3)
    assert (slopes[1] - truth).norm() <= 1.1 * (slopes[0] - truth).norm()


def test_by_parts_never_more_logits_live_than_may(monkeypatch):
    hidden, head, labels, weights = example()
    head.requires_grad_(False)
    live = []
    for rows in (1, 64):
        monkeypatch.setitem(loss.ROWS, "cpu", rows)
        with Meter() as meter:
            supervised_loss(hidden, labels, weights, head, FrozenHead(head.weight, head.bias))
        live.append(meter.tape.peak)
    assert live[0] < live[1]


def test_by_parts_nothing_supervised_is_a_zero_that_can_be_differentiated():
    hidden, head, labels, weights = example()
    frozen = FrozenHead(head.weight, head.bias)
    supervised_loss(hidden, torch.full_like(labels, -100), weights, head, frozen).loss_sum.backward()
    assert hidden.grad.abs().sum() == 0


def test_a_frozen_head_of_a_language_model_goes_by_parts_and_one_that_trains_or_is_wrapped_does_not(make_model):
    model = make_model(["image"])
    assert model.llm.frozen_head is None
    model.llm.requires_grad_(False)
    assert model.llm.frozen_head.weight is model.llm.model.get_output_embeddings().weight
    insert_lora(model.llm.model, LoraSettings(targets="lm_head"))
    assert model.llm.frozen_head is None
