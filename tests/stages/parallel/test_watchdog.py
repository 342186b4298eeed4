"""What the watchdog says when it ends a run: who is behind, where, with which modality."""

import sys
from dataclasses import replace

import pytest

from modalign.stages.parallel.watchdog import Mark, exchanging, verdict

AUDIO = Mark(12, "audio", 7, "forward")


def test_the_rank_that_is_furthest_behind_hangs_and_the_others_wait_for_it():
    late = Mark(12, "audio", 7, "waiting for data")
    assert verdict({0: AUDIO, 1: AUDIO, 2: late, 3: AUDIO}, 60) == (
        "no progress for 60 s (trainer.step_timeout_s): rank 2 hangs at slice 12 (modality audio) of step 7: waiting "
        "for data; ranks 0, 1, 3 wait at slice 12 (modality audio) of step 7: forward"
    )


def test_an_earlier_slice_is_further_behind_than_an_earlier_place():
    told = verdict({0: Mark(13, "image", 7, "waiting for data"), 1: Mark(12, "audio", 7, "optimizer step")}, 1.5)
    assert "rank 1 hangs at slice 12 (modality audio) of step 7: optimizer step; rank 0 waits at slice 13" in told


def test_a_rank_that_does_not_answer_is_named_and_nobody_else_blamed():
    told = verdict({0: AUDIO, 1: None, 2: None}, 60)
    assert "ranks 1, 2 do not answer; rank 0 waits at slice 12" in told
    assert "hangs" not in told


def test_where_all_are_at_one_place_nobody_is_blamed():
    told = verdict(dict.fromkeys(range(6), AUDIO), 60)
    assert told.endswith("ranks 0, 1, 2, 3 and 2 more wait at slice 12 (modality audio) of step 7: forward")


def test_of_two_at_one_place_the_one_that_waits_in_an_exchange_is_not_to_blame():
    told = verdict({0: replace(AUDIO, exchanging=True), 1: AUDIO}, 4)
    assert "rank 1 hangs at slice 12 (modality audio) of step 7: forward; rank 0 waits at slice 12" in told


@pytest.mark.parametrize(("module", "waits"), [
    ("torch.distributed.distributed_c10d", True),
    ("torch.distributed.algorithms._checkpoint.checkpoint_wrapper", False),  # around a layer's own computation
    ("torch.nn.modules.linear", False),
])  # fmt: skip
def test_who_waits_in_an_exchange_is_seen_by_its_innermost_calls(module, waits):
    here = {"__name__": module, "look": lambda: exchanging(sys._getframe())}
    exec("def call(): return look()", here)
    assert here["call"]() is waits
    assert exchanging(None) is False
