"""Probes while training: whose turn it is, once where it is due, and what it costs."""

import contextlib
from types import SimpleNamespace

import pytest

from modalign.callbacks.probes import ModalityProbes


def play(new, seen, steps, every=2, first=0, micro_steps=1):
    asked, written = [], []

    def probe(module, modality, step):
        asked.append((step, modality))
        return {f"probe/x/{modality}": 1.0}

    callback = ModalityProbes(new, seen, every, probe, lambda values, step: written.append((step, values)))
    precision = SimpleNamespace(forward_context=contextlib.nullcontext)
    trainer = SimpleNamespace(global_step=first, precision_plugin=precision)
    callback.on_train_start(trainer, None)
    for step in range(first, steps + 1):
        trainer.global_step = step
        for micro_step in range(micro_steps):
            callback.on_train_batch_end(trainer, None, None, None, micro_step)
    return asked, written, callback


def test_new_and_earlier_modalities_take_turns():
    asked, _, _ = play(("smell",), ("taste", "touch"), 12)
    assert asked == [(2, "smell"), (4, "taste"), (6, "smell"), (8, "touch"), (10, "smell"), (12, "taste")]


@pytest.mark.parametrize(("new", "seen"), [(("a", "b"), ()), ((), ("a", "b"))])
def test_where_there_are_only_new_or_only_earlier_ones_these_take_turns(new, seen):
    assert [name for _, name in play(new, seen, 8)[0]] == ["a", "b", "a", "b"]


def test_a_resumed_run_goes_on_as_the_unbroken_one_would():
    whole, _, _ = play(("a",), ("b", "c"), 12)
    resumed, _, _ = play(("a",), ("b", "c"), 12, first=6, micro_steps=3)
    assert resumed == [turn for turn in whole if turn[0] > 6]


def test_micro_steps_of_one_optimizer_step_are_one():
    assert play(("a",), (), 4, micro_steps=4)[0] == [(2, "a"), (4, "a")]


def test_what_was_found_is_written_with_its_share_of_the_time():
    _, written, callback = play(("a",), (), 4)
    assert [step for step, _ in written] == [2, 4]
    assert written[1][1]["probe/x/a"] == 1.0
    assert 0 < written[1][1]["probe/share_of_time"] <= 1
    assert written[1][1]["probe/share_of_time"] == callback.share
