"""Positions: a table of one's own, or the encoder's; frames are told apart."""

from __future__ import annotations

import pytest
import torch

from modalign.errors import ModalignError
from modalign.models.positions import Positions


def test_a_learned_table_has_a_row_for_the_class_token():
    positions = Positions(4, 8, learned=True)
    assert positions.table().shape == (5, 8)
    assert 0.01 < float(Positions(400, 64, learned=True).table().detach().std()) < 0.03


def test_without_a_table_and_frames_there_is_nothing_to_train():
    positions = Positions(4, 8, learned=False)
    tokens = torch.randn(2, 1, 4, 8)
    assert positions.table() is None
    assert positions.mark_frames(tokens) is tokens
    assert not list(positions.parameters())


def test_frames_are_marked_so_that_their_mean_knows_their_order():
    positions = Positions(4, 8, learned=False, num_frames=3, std=1.0)
    tokens = torch.randn(1, 3, 4, 8)
    marked, flipped = positions.mark_frames(tokens), positions.mark_frames(tokens.flip(1)).flip(1)
    torch.testing.assert_close(marked[0, 2] - tokens[0, 2], positions.frames[2].expand(4, -1))
    assert not torch.allclose(marked.square().mean(1), flipped.square().mean(1))


def test_fewer_frames_take_the_first_marks_and_more_are_refused():
    positions = Positions(4, 8, learned=False, num_frames=3)
    assert positions.mark_frames(torch.zeros(1, 2, 4, 8)).shape == (1, 2, 4, 8)
    with pytest.raises(ModalignError, match="4 frames came, but positions hold 3"):
        positions.mark_frames(torch.zeros(1, 4, 4, 8))


def test_a_frame_gain_makes_the_mean_over_frames_tell_their_order():
    positions = Positions(4, 8, learned=False, num_frames=3, std=0.02, frame_gain=0.5)
    tokens = torch.randn(2, 3, 4, 8)
    forwards = positions.mark_frames(tokens).mean(dim=1)
    backwards = positions.mark_frames(tokens.flip(1)).mean(dim=1)
    assert not torch.allclose(forwards, backwards, atol=1e-3)
    assert torch.allclose(positions.gains[:, 0], torch.tensor([0.5, 1.0, 1.5]))
