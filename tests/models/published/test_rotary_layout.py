"""Rotating halves after the permutation is rotating neighbours before it."""

from __future__ import annotations

import pytest
import torch
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from modalign.models.published.rotary import halves_to_neighbours, neighbours_to_halves


def rotate_neighbours(x: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    turned = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous()) * torch.polar(torch.ones_like(angles), angles)
    return torch.view_as_real(turned).flatten(-2)


@pytest.mark.parametrize("num_key_heads", [3, 1])
def test_attention_scores_are_the_same_in_both_layouts(num_key_heads):
    width, head, length = 18, 6, 5
    query, key = torch.randn(3 * head, width), torch.randn(num_key_heads * head, width)
    x = torch.randn(1, length, width)
    angles = torch.outer(torch.arange(length).float(), 10000.0 ** (-torch.arange(0, head, 2) / head))

    def heads(weight):
        return (x @ weight.T).unflatten(-1, (-1, head)).transpose(1, 2)

    meta = rotate_neighbours(heads(query), angles) @ rotate_neighbours(heads(key), angles).transpose(-1, -2)
    both = torch.cat([angles, angles], dim=-1).unsqueeze(0)
    q, k = apply_rotary_pos_emb(
        heads(neighbours_to_halves(query, head)), heads(neighbours_to_halves(key, head)), both.cos(), both.sin()
    )
    torch.testing.assert_close(q @ k.transpose(-1, -2), meta, atol=1e-4, rtol=1e-4)


def test_the_permutation_is_undone_exactly():
    weight = torch.randn(24, 7)
    assert torch.equal(halves_to_neighbours(neighbours_to_halves(weight, 6), 6), weight)
    assert not torch.equal(neighbours_to_halves(weight, 6), weight)
