"""Nearest words to tokens that are words, and gradients that can be worked out."""

import contextlib
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from modalign.evaluation.probes.gradients import gradient_norms
from modalign.evaluation.probes.quiet import undisturbed
from modalign.evaluation.probes.words import nearest_words
from modalign.types import TokenSet

NAMES = ["red", "blue", "cube", "ball"]
ROWS = torch.eye(4, 6) + 0.1


def words(values, mask=None):
    return nearest_words(TokenSet(values, mask), ROWS, NAMES.__getitem__)


def test_tokens_that_are_words_are_found_whatever_their_length():
    found = words(torch.stack([ROWS[[0, 2]] * 3, ROWS[[0, 3]], ROWS[[0, 3]]]))
    assert [(w.token, w.word) for w in found] == [(0, "red"), (1, "ball")]
    assert [w.share for w in found] == pytest.approx([1.0, 2 / 3])
    assert [w.cosine for w in found] == pytest.approx([1.0, 1.0])


def test_padding_has_no_nearest_word():
    found = words(ROWS[[0, 2]].unsqueeze(0), torch.tensor([[True, False]]))
    assert [w.token for w in found] == [0]


def test_tokens_of_another_width_are_not_compared():
    assert words(torch.randn(1, 2, 5)) == ()


class Product(nn.Module):
    """A loss of 3a + 4b over a weight of 2, in which c has no part."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (nn.Parameter(torch.ones(1), requires_grad=False) for _ in range(3))

    def forward(self, batch):
        return SimpleNamespace(loss_sum=(3 * self.a + 4 * self.b).sum(), weight_sum=torch.tensor(2.0))


def test_the_gradient_of_a_part_has_the_length_that_arithmetic_gives():
    model = Product()
    parts = {"both": [model.a, model.b], "a": [model.a], "idle": [model.c]}
    with torch.no_grad():
        assert gradient_norms(model, None, parts) == {"both": 2.5, "a": 1.5, "idle": 0.0}
    assert all(p.grad is None and not p.requires_grad for p in model.parameters())
    assert gradient_norms(model, None, {}) == {}


def test_a_look_leaves_modes_and_random_numbers_as_they_were():
    model = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5))
    model[1].eval()
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    with contextlib.suppress(ZeroDivisionError), undisturbed(model):
        assert not model[0].training
        torch.rand(3)
        raise ZeroDivisionError
    assert [module.training for module in model] == [True, False]
    assert torch.equal(torch.rand(1), expected)
