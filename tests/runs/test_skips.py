"""Skipped optimizer steps: counted, the first ones named, an error where they do not end."""

import pytest
import torch

from modalign.errors import ModalignError
from modalign.runs.skips import Skips


def test_skipped_steps_are_counted_and_named():
    skips = Skips()
    for step in range(1, 6):
        skips.note(step, skipped=step in (2, 4))
    assert skips.to_dict() == {"count": 2, "in_a_row": 0, "steps": [2, 4]}
    later = Skips()
    later.load(skips.to_dict())
    later.load(None)
    assert later.to_dict() == skips.to_dict()


def test_nothing_but_skipped_steps_is_an_error_that_says_what_to_change():
    skips = Skips(most_in_a_row=3)
    for step, skipped in enumerate([True, True, False, True, True], 1):
        skips.note(step, skipped)
        skips.check()
        assert not skips.due
    skips.note(6, skipped=True)
    skips.settle()
    assert skips.due
    for _ in range(2):
        with pytest.raises(ModalignError, match=r"not finite in 3 steps in a row, up to step 6: lower .*learning_rate"):
            skips.check()


def test_flags_on_a_device_are_read_together_and_not_before_somebody_asks():
    skips = Skips(most_in_a_row=3)
    for step in (1, 2):
        skips.note(step, torch.tensor(step == 2))
    assert (skips.count, skips.due) == (0, False)
    assert skips.to_dict() == {"count": 1, "in_a_row": 1, "steps": [2]}
    for step in (3, 4, 5):
        skips.note(step, torch.tensor(False))
    assert skips.due
    skips.check()
    assert not skips.due


def test_a_run_most_of_whose_steps_were_skipped_has_failed(caplog):
    skips = Skips()
    for step in range(1, 9):
        skips.note(step, skipped=step in (2, 3))
    skips.end(8)
    assert "loss or gradient was not finite in 2 of 8 steps, which changed nothing (the first: step 2)" in caplog.text
    with pytest.raises(ModalignError, match=r"not finite in 2 of 3 steps.*lower stages"):
        skips.end(3)
    caplog.clear()
    Skips().end(8)
    assert not caplog.text
