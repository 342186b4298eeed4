"""Rows taken out and put back: values and gradients are those of indexing."""

from __future__ import annotations

import pytest
import torch

from modalign.models.rows import put, take


@pytest.mark.parametrize("rest", [(), (5,), (2, 3)])
def test_taking_and_putting_are_indexing_and_each_other_s_gradient(rest):
    values = torch.randn(2, 4, *rest, dtype=torch.float64, requires_grad=True)
    index = torch.tensor([0, 3, 6])
    taken = take(values, index, axes=2)
    assert torch.equal(taken, values.flatten(0, 1)[index])
    whole = put(taken, index, (2, 4))
    expected = torch.zeros_like(values).flatten(0, 1).index_copy(0, index, taken).unflatten(0, (2, 4))
    assert torch.equal(whole, expected)
    slope = torch.randn_like(values)
    (found,) = torch.autograd.grad(whole, values, slope, retain_graph=True)
    (wanted,) = torch.autograd.grad(expected, values, slope)
    assert torch.equal(found, wanted)
