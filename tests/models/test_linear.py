"""Linear maps by either library are the same maps, and which one is taken is known beforehand."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from modalign.models import linear, processor
from modalign.models.linear import LARGE_MAP, MKL, ONEDNN, by_onednn, choose_libraries, library, product, using

WIDE = 512
assert WIDE * WIDE >= LARGE_MAP
has_onednn = pytest.mark.skipif(linear._onednn is None, reason="torch was built without oneDNN")


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("name", "avx512", "expected"),
    [("AMD EPYC", True, ONEDNN), ("AMD EPYC", False, MKL), ("Intel(R) Xeon(R)", True, MKL), ("", True, MKL)],
)
@has_onednn
def test_the_library_is_told_by_the_processor(name, avx512, expected, monkeypatch):
    monkeypatch.setattr(processor, "capabilities", lambda: {"cpu_name": name, "avx512_f": avx512})
    assert library() == expected


def test_only_large_maps_in_float32_are_onednns():
    x, weight = random(3, WIDE), random(WIDE, WIDE)
    with using(MKL):
        assert not by_onednn(x, weight)
    with using(ONEDNN):
        assert by_onednn(x, weight)
        assert not by_onednn(x, weight[:8])
        assert not by_onednn(x[:0], weight)
        assert not by_onednn(x.bfloat16(), weight.bfloat16())
        assert not by_onednn(x.to("meta"), weight.to("meta"))


@has_onednn
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(7, WIDE), (2, 5, WIDE), (2, 3, 4, WIDE), (WIDE,)])
def test_a_module_has_the_plain_ones_values_and_gradients(bias, shape):
    plain = nn.Linear(WIDE, 300, bias=bias)
    chosen = copy.deepcopy(plain)
    choose_libraries(chosen)
    inputs = [random(*shape).requires_grad_() for _ in range(2)]
    wanted = plain(inputs[0])
    with using(ONEDNN):
        found = chosen(inputs[1])
        assert by_onednn(inputs[1], chosen.weight)
        found.square().sum().backward()
    wanted.square().sum().backward()
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(inputs[1].grad, inputs[0].grad, rtol=1e-5, atol=1e-4)
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(chosen.get_parameter(name).grad, parameter.grad, rtol=1e-5, atol=1e-4)


@has_onednn
def test_a_slope_that_lies_anyhow_in_memory_is_read_right():
    plain = nn.Linear(WIDE, 300)
    chosen = copy.deepcopy(plain)
    choose_libraries(chosen)
    found, wanted = (random(2, 6, WIDE).transpose(0, 1).requires_grad_() for _ in range(2))
    with using(ONEDNN):
        chosen(found).sum().backward()  # a slope of one number, expanded
    plain(wanted).sum().backward()
    torch.testing.assert_close(found.grad, wanted.grad, rtol=1e-5, atol=1e-5)


@has_onednn
def test_what_is_frozen_gets_no_gradient_and_keeps_nothing():
    chosen = nn.Linear(WIDE, 300).requires_grad_(False)
    choose_libraries(chosen)
    x = random(4, WIDE).requires_grad_()
    kept = []
    with using(ONEDNN), torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        chosen(x).sum().backward()
    assert [t.shape for t in kept] == [chosen.weight.shape]
    assert chosen.weight.grad is None
    assert x.grad is not None


@has_onednn
def test_flops_are_counted_by_either_library():
    x, weight = random(3, WIDE), random(300, WIDE)
    for name in (MKL, ONEDNN):
        with using(name), FlopCounterMode(display=False) as counter:
            product(x, weight)
        assert counter.get_total_flops() == 2 * 3 * WIDE * 300


@has_onednn
def test_copies_of_a_model_compute_with_their_own_weights():
    first = nn.Linear(WIDE, 300)
    choose_libraries(first)
    second = copy.deepcopy(first)
    nn.init.zeros_(second.weight)
    nn.init.zeros_(second.bias)
    assert float(second(random(2, WIDE)).abs().max()) == 0.0
    assert float(first(random(2, WIDE)).abs().max()) > 0.0


@has_onednn
def test_in_half_precision_a_module_is_torchs_own():
    chosen = nn.Linear(WIDE, 300)
    choose_libraries(chosen)
    with using(ONEDNN), torch.autocast("cpu", dtype=torch.bfloat16):
        assert chosen(random(2, WIDE)).dtype == torch.bfloat16
