"""Exact shares of a mixture."""

import random
from fractions import Fraction

import pytest

from modalign.curriculum.shares import MAX_DENOMINATOR, bounded, cycle_length, weighted_shares
from modalign.errors import ModalignError


def test_weights_are_kept_exactly_where_a_short_cycle_can_hold_them():
    assert weighted_shares({"a": 1, "b": 1, "c": 1}) == dict.fromkeys("abc", Fraction(1, 3))
    assert weighted_shares({"a": 0.7, "b": 0.1}) == {"a": Fraction(7, 8), "b": Fraction(1, 8)}


def test_a_weight_of_zero_leaves_a_source_out():
    assert weighted_shares({"a": 2.0, "b": 0.0}) == {"a": Fraction(1)}


@pytest.mark.parametrize("weight", [-1, float("nan"), float("inf"), "1", True, None])
def test_a_weight_that_is_none_is_an_error(weight):
    with pytest.raises(ModalignError, match="mixture weight of 'b'"):
        weighted_shares({"a": 1, "b": weight})


@pytest.mark.parametrize("weights", [{}, {"a": 0}])
def test_a_mixture_of_nothing_is_an_error(weights):
    with pytest.raises(ModalignError, match="no source of positive weight"):
        weighted_shares(weights)


def test_any_proportions_sum_to_exactly_one_over_a_bounded_cycle_and_stay_near():
    generator = random.Random(0)
    for _ in range(300):
        weights = {str(i): generator.random() ** generator.choice([1, 4, 20]) for i in range(generator.randint(1, 30))}
        shares = weighted_shares(weights)
        total = sum(weights.values())
        assert sum(shares.values()) == 1
        assert cycle_length(shares) <= MAX_DENOMINATOR
        assert min(shares.values()) > 0
        # A source raised to one slice a cycle takes it from the others, so allow one slice for each of the thirty.
        assert all(abs(float(shares[k]) - weights[k] / total) <= 30 / MAX_DENOMINATOR for k in weights)


def test_a_tiny_source_is_raised_to_one_slice_a_cycle_and_never_dropped():
    shares = bounded({"large": Fraction(10**9), "tiny": Fraction(1)})
    assert shares == {"large": Fraction(999, 1000), "tiny": Fraction(1, 1000)}


def test_more_sources_than_a_cycle_has_slices_is_an_error():
    with pytest.raises(ModalignError, match="1001 sources"):
        bounded({str(i): Fraction(i + 1) for i in range(1001)})
