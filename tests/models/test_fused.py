"""Fused norms and gates: the plain operations' values and gradients, with less kept."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from modalign.models.fused import gated_linear, norm_linear
from modalign.stages.forecast.meter import Meter


def plain_norm(x, norm, weight):
    return F.linear(F.rms_norm(x, norm.shape, norm, 1e-5), weight)


def plain_gate(gate_up, weight):
    gate, up = gate_up.chunk(2, dim=-1)
    return F.linear(F.silu(gate) * up, weight)


def drawn(*shapes, dtype=torch.float32):
    random = torch.Generator().manual_seed(0)
    return [torch.randn(*shape, generator=random).to(dtype).requires_grad_() for shape in shapes]


NORM = (lambda x, n, w: norm_linear(x, n, 1e-5, w), plain_norm, [(2, 5, 8), (8,), (6, 8)])
GATE = (gated_linear, plain_gate, [(2, 5, 24), (8, 12)])


@pytest.mark.parametrize("fused", [NORM, GATE], ids=["norm", "gate"])
@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_values_and_gradients_are_those_of_the_plain_operations(fused, dtype, close):
    ours, plain, shapes = fused
    inputs = drawn(*shapes, dtype=dtype)
    torch.testing.assert_close(ours(*inputs), plain(*inputs), rtol=close, atol=close)
    slopes = [torch.autograd.grad(f(*inputs).square().sum(), inputs) for f in (ours, plain)]
    for one, other in zip(*slopes, strict=True):
        torch.testing.assert_close(one, other, rtol=10 * close, atol=10 * close)


@pytest.mark.parametrize("fused", [NORM, GATE], ids=["norm", "gate"])
def test_in_half_precision_it_is_no_further_from_the_truth_than_the_plain_operations(fused):
    ours, plain, shapes = fused
    inputs = drawn(*shapes)
    truth = plain(*(x.detach().double() for x in inputs))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        apart = [(f(*inputs).double() - truth).norm() for f in (ours, plain)]
        slopes = torch.autograd.grad(ours(*inputs).float().sum(), inputs)
    assert apart[0] <= 1.1 * apart[1]
    assert [s.dtype for s in slopes] == [x.dtype for x in inputs]


@pytest.mark.parametrize("fused", [NORM, GATE], ids=["norm", "gate"])
def test_what_is_frozen_gets_no_gradient_and_the_rest_the_same(fused):
    ours, plain, shapes = fused
    for place in range(len(shapes)):
        inputs = [x.detach().requires_grad_(i == place) for i, x in enumerate(drawn(*shapes))]
        found, wanted = (torch.autograd.grad(f(*inputs).square().sum(), inputs[place])[0] for f in (ours, plain))
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("fused", "share"), [(NORM, 0.6), (GATE, 0.6)], ids=["norm", "gate"])
def test_it_keeps_little_more_than_half_for_the_backward_pass(fused, share):
    ours, plain, shapes = fused
    inputs = drawn(*((64 * s[0], *s[1:]) if len(s) > 2 else s for s in shapes))
    kept = []
    for compute in (ours, plain):
        with Meter() as meter:
            for x in inputs:
                meter.know(x, "")
            out = compute(*inputs)
            kept.append(meter.tape.total)
            del out
    assert kept[0] < share * kept[1]
