"""Each kernel is softmax attention, and which one is taken is known beforehand."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.profiler import profile

from modalign.models import attention, written_out
from modalign.models.attention import FEW_TOKENS, FUSED, PLAIN, attend, kernel_of
from modalign.models.blocks import recompute, repeated_blocks
from modalign.models.encoders.open_clip_tower import OpenClipTower

FLOAT, HALF = torch.float32, torch.bfloat16


@pytest.mark.parametrize(
    ("device", "tokens", "kernel"),
    [("cuda", 300, FUSED), ("cuda", 3, FUSED), ("cpu", FEW_TOKENS + 1, FUSED), ("cpu", FEW_TOKENS, PLAIN)],
)
def test_the_kernel_depends_on_what_it_is_given_alone(device, tokens, kernel):
    assert kernel_of(device, tokens) == kernel


def example(dtype, queries=9, tokens=70, masked=True):
    random = torch.Generator().manual_seed(0)
    shapes = ((2, 3, queries, 8), (2, 3, tokens, 8), (2, 3, tokens, 8))
    inputs = [torch.randn(*shape, generator=random).to(dtype).requires_grad_() for shape in shapes]
    mask = None
    if masked:
        mask = torch.ones(2, 1, 1, tokens, dtype=torch.bool)
        mask[1, ..., tokens // 2 :] = False
    return inputs, mask


def definition(inputs, mask):
    query, key, value = (x.detach().double().requires_grad_() for x in inputs)
    scores = query @ key.transpose(-1, -2) / 8**0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    read = scores.softmax(dim=-1) @ value
    return read, torch.autograd.grad(read.square().sum(), (query, key, value))


@pytest.mark.parametrize("kernel", [FUSED, PLAIN])
@pytest.mark.parametrize("dtype", [FLOAT, HALF])
@pytest.mark.parametrize("masked", [False, True])
def test_every_kernel_has_the_definition_s_values_and_gradients(kernel, dtype, masked, monkeypatch):
    monkeypatch.setattr(attention, "kernel_of", lambda *_: kernel)
    inputs, mask = example(dtype, masked=masked)
    read = attend(*inputs, mask)
    assert read.dtype == dtype
    wanted, slopes = definition(inputs, mask)
    close = {"rtol": 1e-4, "atol": 1e-5} if dtype == FLOAT else {"rtol": 0.05, "atol": 0.03}
    torch.testing.assert_close(read.double(), wanted, **close)
    for ours, theirs in zip(torch.autograd.grad(read.square().sum(), inputs), slopes, strict=True):
        torch.testing.assert_close(ours.double(), theirs, **close)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("at_a_time", "kept"), [(1 << 19, 128), (100, 128), (100, 2), (21, 2), (1, 0)])
def test_heads_computed_some_at_a_time_have_the_gradients_of_the_definition(at_a_time, kept, masked, monkeypatch):
    monkeypatch.setattr(written_out, "AT_A_TIME", at_a_time)
    monkeypatch.setattr(written_out, "KEPT_TOKENS", kept)
    inputs, mask = example(torch.float64, queries=3, tokens=7, masked=masked)
    assert torch.autograd.gradcheck(lambda *x: written_out.written_out(*x, mask), inputs)
    read = written_out.written_out(*inputs, mask)
    torch.testing.assert_close(read, definition(inputs, mask)[0])
    with torch.no_grad():
        assert torch.equal(written_out.written_out(*inputs, mask), read)


@pytest.mark.parametrize("kernel", [FUSED, PLAIN])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_in_half_precision_it_is_no_further_from_the_definition_than_torch_s_kernel(kernel, scale, monkeypatch):
    monkeypatch.setattr(attention, "kernel_of", lambda *_: kernel)
    inputs, _ = example(HALF, masked=False)
    inputs = [x.detach() * scale for x in inputs]
    wanted, _ = definition(inputs, None)
    apart = [(f(*inputs).double() - wanted).norm() for f in (attend, torch.nn.functional.scaled_dot_product_attention)]
    assert apart[0] <= 1.05 * apart[1]


def test_under_autocast_it_computes_in_autocast_s_precision():
    inputs, _ = example(FLOAT)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert attend(*inputs).dtype == torch.bfloat16


def small_tower():
    vision = {"image_size": 24, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16, "mlp_ratio": 2.0}
    tower = OpenClipTower({"embed_dim": 16, "vision_cfg": vision}, seed=0)
    return tower.requires_grad_(False)


def through(tower):
    tokens = torch.randn(3, 9, 32, generator=torch.Generator().manual_seed(1)).requires_grad_()
    features = tower(tokens)
    return features.detach(), *torch.autograd.grad(features.square().sum(), tokens)


def test_a_tower_takes_the_plain_kernel_for_few_tokens_with_the_same_features_and_gradients(monkeypatch):
    tower = small_tower()
    with profile() as seen:
        plain = through(tower)
    assert not any("flash" in event.key for event in seen.key_averages())
    monkeypatch.setattr(attention, "FEW_FOR_TORCH", 0)
    with profile() as seen:
        fused = through(copy.deepcopy(tower))
    assert any("flash" in event.key for event in seen.key_averages())
    for ours, theirs in zip(plain, fused, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_block_that_is_computed_again_chooses_its_kernel_again():
    tower = small_tower()
    plain = through(tower)
    recompute(repeated_blocks(tower))
    for ours, theirs in zip(through(tower), plain, strict=True):
        assert torch.equal(ours, theirs)
