"""The loss at supervised positions alone is the loss."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from modalign.models.loss import supervised_loss


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
