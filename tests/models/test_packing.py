"""Samples in one row and back again: every token keeps its place, and gradients go the same ways."""

import torch

from modalign.models.packing import packing_of

LENGTHS = [3, 1, 4]


def test_packing_there_and_back_keeps_every_token_and_computes_no_other():
    packing = packing_of(LENGTHS, 4, torch.device("cpu"))
    values = torch.arange(24.0).view(3, 4, 2)
    packed = packing.pack(values)
    assert packed.shape == (1, 8, 2)
    back = packing.unpack(packed)
    for row, length in enumerate(LENGTHS):
        assert torch.equal(back[row, :length], values[row, :length])


def test_gradients_of_tokens_come_back_and_those_of_padding_are_zero():
    packing = packing_of(LENGTHS, 5, torch.device("cpu"))
    values = torch.randn(3, 5, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(packing.pack, (values,))
    # Of a packed row's way back only tokens may be used: what stands in the padding has no gradient of its own.
    tokens = torch.randn(1, 8, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: packing.pack(packing.unpack(x) * 3), (tokens,))


def test_a_packed_row_says_where_each_sample_begins():
    packing = packing_of(LENGTHS, 4, torch.device("cpu"))
    assert packing.ends.tolist() == [0, 3, 4, 8]
    assert packing.ends.dtype == torch.int32
    assert packing.lengths == (3, 1, 4)
    assert packing.padded.tolist() == [[0, 1, 2, 2], [3, 3, 3, 3], [4, 5, 6, 7]]
