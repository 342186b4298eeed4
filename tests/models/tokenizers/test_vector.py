"""Vectors: one linear map a variant, in the order in which the vectors came."""

from __future__ import annotations

import pytest
import torch

from modalign.errors import ModalignError
from modalign.models.tokenizers.vector import VectorTokenizer


def test_each_vector_goes_through_its_own_variant_and_keeps_its_place():
    tokenizer = VectorTokenizer(4, 2, {"s1": 3, "s2": 5})
    vectors = torch.zeros(4, 5)
    vectors[0] = torch.randn(5)
    vectors[1, :3] = torch.randn(3)
    vectors[2] = torch.randn(5)
    vectors[3, :3] = torch.randn(3)
    tokens = tokenizer(vectors, ("s2", "s1", "s2", "s1"))
    assert tokens.shape == (4, 1, 2, 4)
    torch.testing.assert_close(tokens[1].flatten(), tokenizer.linears["s1"](vectors[1, :3]))
    torch.testing.assert_close(tokens[2].flatten(), tokenizer.linears["s2"](vectors[2]))


def test_padding_of_a_shorter_variant_is_never_read():
    tokenizer = VectorTokenizer(4, 2, {"s1": 3, "s2": 5})
    vectors = torch.randn(1, 5)
    changed = vectors.clone()
    changed[0, 3:] = 9.0
    assert torch.equal(tokenizer(vectors, ("s1",)), tokenizer(changed, ("s1",)))


def test_gradients_reach_every_variant_that_came():
    tokenizer = VectorTokenizer(4, 2, {"s1": 3, "s2": 5})
    tokenizer(torch.randn(2, 5), ("s2", "s1")).square().sum().backward()
    assert all(layer.weight.grad.abs().sum() > 0 for layer in tokenizer.linears.values())


def test_a_single_variant_needs_no_name():
    tokenizer = VectorTokenizer(4, 2, {"only": 3})
    assert tokenizer(torch.randn(2, 1, 3)).shape == (2, 1, 2, 4)


def test_an_unknown_variant_lists_the_known_ones():
    tokenizer = VectorTokenizer(4, 2, {"subject1": 3, "subject2": 5})
    with pytest.raises(ModalignError, match="did you mean 'subject2'"):
        tokenizer(torch.randn(1, 5), ("subject3",))
    with pytest.raises(ModalignError, match="known: subject1, subject2"):
        tokenizer(torch.randn(1, 5))
    with pytest.raises(ModalignError, match="has 5 values"):
        tokenizer(torch.randn(1, 4), ("subject2",))
    with pytest.raises(ModalignError, match="at least one variant"):
        VectorTokenizer(4, 2, {})
