"""The experts' blocks: what is saved by computing only the query tokens changes nothing."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from modalign.errors import ModalignError
from modalign.models.projectors.blocks import Attention, Block, Expert


def test_attention_is_softmax_over_all_tokens():
    layer, norm, x = Attention(8, 2), nn.RMSNorm(8, eps=1e-5), torch.randn(2, 5, 8)
    query, key, value = (t.view(2, 5, 2, 4).transpose(1, 2) for t in layer.qkv(norm(x)).chunk(3, dim=-1))
    read = (query @ key.transpose(-1, -2) / 2).softmax(dim=-1) @ value
    torch.testing.assert_close(layer(x, norm, 5, None), layer.out(read.transpose(1, 2).reshape(2, 5, 8)))


def test_a_block_is_normed_attention_and_gated_feed_forward_each_added():
    block, x = Block(8, 2, 12), torch.randn(2, 5, 8)
    y = x + block.attention(x, block.attention_norm, 5, None)
    normed = block.feed_norm(y)
    gate, up = F.linear(normed, block.feed.gate_up.weight[:12]), F.linear(normed, block.feed.gate_up.weight[12:])
    torch.testing.assert_close(block(x), y + block.feed.down(F.silu(gate) * up))


def test_the_last_block_on_queries_alone_equals_the_full_computation():
    expert = Expert(16, 3, 4, 24).double()
    queries, inputs = torch.randn(2, 3, 16).double(), torch.randn(2, 7, 16).double()
    full = torch.cat([queries, inputs], dim=1)
    for block in expert.blocks:
        full = block(full)
    torch.testing.assert_close(expert(queries, inputs), full[:, :3], rtol=0, atol=1e-12)


def test_the_gradients_are_those_of_the_full_computation():
    expert = Expert(16, 2, 4, 24).double()
    queries, inputs = torch.randn(2, 3, 16).double(), torch.randn(2, 7, 16).double()
    expert(queries, inputs).square().sum().backward()
    short = [p.grad.clone() for p in expert.parameters()]
    expert.zero_grad()
    full = torch.cat([queries, inputs], dim=1)
    for block in expert.blocks:
        full = block(full)
    full[:, :3].square().sum().backward()
    for ours, theirs in zip(short, (p.grad for p in expert.parameters()), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_masked_inputs_are_never_read():
    expert = Expert(16, 2, 4, 24)
    queries, inputs = torch.randn(2, 3, 16), torch.randn(2, 7, 16)
    mask = torch.ones(2, 7, dtype=torch.bool)
    mask[1, 4:] = False
    read = expert(queries, inputs, mask)
    torch.testing.assert_close(read[1:], expert(queries[1:], inputs[1:, :4]))
    inputs[1, 4:] = 100.0
    assert torch.equal(read, expert(queries, inputs, mask))


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(ModalignError, match="10 cannot be split into 4 heads"):
        Attention(10, 4)
    with pytest.raises(ModalignError, match="at least one layer, 0 were asked for"):
        Expert(8, 0, 2, 8)
