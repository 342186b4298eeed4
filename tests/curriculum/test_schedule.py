"""The order of slices of a mixture."""

import itertools
import pickle
from collections import Counter
from fractions import Fraction

import pytest

from modalign.curriculum.replay import shares
from modalign.curriculum.schedule import SliceSchedule
from modalign.curriculum.shares import weighted_shares
from modalign.errors import ModalignError

MIXED = shares(["imu"], ["image", "audio", "video"], {}, "ratio:0.3")


def test_every_cycle_is_in_exact_proportion():
    schedule = SliceSchedule(MIXED, seed=0)
    for cycle in range(5):
        names = Counter(schedule.at(n)[0] for n in range(cycle * schedule.cycle, (cycle + 1) * schedule.cycle))
        assert {name: Fraction(number, schedule.cycle) for name, number in names.items()} == MIXED


def test_occurrences_count_each_source_without_a_gap():
    schedule = SliceSchedule(MIXED, seed=3)
    counted: Counter[str] = Counter()
    for n in range(7 * schedule.cycle + 5):
        assert schedule.counts(n) == {name: counted[name] for name in MIXED}
        name, occurrence = schedule.at(n)
        assert occurrence == counted[name]
        counted[name] += 1


def test_a_slice_is_a_pure_function_of_its_number():
    forwards = SliceSchedule(MIXED, seed=1)
    backwards = SliceSchedule(MIXED, seed=1)
    numbers = range(12 * forwards.cycle)
    assert [forwards.at(n) for n in numbers] == [backwards.at(n) for n in reversed(numbers)][::-1]
    copied = pickle.loads(pickle.dumps(forwards))
    assert copied.at(10**12) == SliceSchedule(MIXED, seed=1).at(10**12)


def test_the_order_does_not_change_between_versions():
    schedule = SliceSchedule(weighted_shares({"a": 1, "b": 2}), seed=0)
    assert "".join(schedule.at(n)[0] for n in range(24)) == "abbbabbabbbababbabbabbba"


def test_seeds_and_cycles_order_differently():
    even = weighted_shares(dict.fromkeys("abcdefgh", 1))
    orders = {
        (seed, cycle): tuple(SliceSchedule(even, seed).at(8 * cycle + n)[0] for n in range(8))
        for seed in range(3)
        for cycle in range(3)
    }
    assert len(set(orders.values())) == 9


def test_a_source_waits_at_most_about_two_of_its_turns():
    mixed = weighted_shares({"large": 60, "middle": 30, "small": 10})
    schedule = SliceSchedule(mixed, seed=5)
    for name, share in mixed.items():
        places = [n for n in range(20 * schedule.cycle) if schedule.at(n)[0] == name]
        gaps = [after - before for before, after in itertools.pairwise(places)]
        # Two stretches of its own, and of each other source at most one slice that falls in besides.
        assert max(gaps) <= 2 / share + len(mixed) - 1


def test_a_source_without_a_share_never_appears():
    schedule = SliceSchedule({"a": Fraction(1), "b": Fraction(0)}, seed=0)
    assert {schedule.at(n)[0] for n in range(50)} == {"a"}
    assert schedule.counts(50) == {"a": 50}


@pytest.mark.parametrize(
    "wrong", [{}, {"a": Fraction(1, 2)}, {"a": Fraction(3, 2), "b": Fraction(-1, 2)}, {"a": Fraction(0)}]
)
def test_shares_that_do_not_sum_to_one_are_an_error(wrong):
    with pytest.raises(ModalignError, match="sum to exactly 1"):
        SliceSchedule(wrong, seed=0)


def test_a_cycle_too_long_to_walk_is_an_error():
    with pytest.raises(ModalignError, match="cycle of 1000003 slices"):
        SliceSchedule({"a": Fraction(1, 1_000_003), "b": Fraction(1_000_002, 1_000_003)}, seed=0)


def test_there_is_no_slice_before_the_first():
    with pytest.raises(IndexError):
        SliceSchedule(MIXED, seed=0).at(-1)


def test_the_order_in_which_shares_are_written_draws_nothing_else():
    turned = SliceSchedule(dict(reversed(MIXED.items())), seed=1)
    straight = SliceSchedule(MIXED, seed=1)
    assert [turned.at(n) for n in range(3 * turned.cycle)] == [straight.at(n) for n in range(3 * turned.cycle)]
