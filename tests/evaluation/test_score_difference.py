"""Two runs' scores compared: item by item where the items are the same, else by their two intervals."""

import pytest

from modalign.evaluation.intervals import wilson
from modalign.evaluation.score_difference import score_difference
from modalign.evaluation.scores import Score


def score(right, n, hits=()):
    kept = " ".join(f"{int(hit)}/1" for hit in hits)
    return Score("image", "answer", "test", "exact_match", right / n, *wilson(right, n), None, n, hits=kept)


def test_a_small_gain_on_the_same_items_is_seen_though_the_two_intervals_overlap():
    before = [i < 60 for i in range(100)]
    after = [hit or 70 <= i < 78 for i, hit in enumerate(before)]
    first, second = score(60, 100, before), score(68, 100, after)
    assert first.high > second.low
    paired = score_difference(first, second, same_items=True)
    assert paired.paired
    assert paired.beyond
    assert paired.value == pytest.approx(0.08)
    assert 0.02 < paired.low < 0.05 < 0.11 < paired.high < 0.15
    for other in (score_difference(first, second, False), score_difference(score(60, 100), second, True)):
        assert not other.paired
        assert not other.beyond


def test_intervals_alone_give_the_published_example_of_two_proportions():
    # Newcombe 1998, Statistics in Medicine 17, table II, (a) 56/70 - 48/80, method 10: 0.0524 to 0.3339.
    found = score_difference(score(48, 80), score(56, 70), same_items=True)
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def test_another_number_of_items_is_not_paired():
    assert not score_difference(score(1, 2, [1, 0]), score(2, 3, [1, 0, 1]), same_items=True).paired


def test_equal_on_every_item_is_no_difference():
    same = score_difference(score(1, 2, [1, 0]), score(1, 2, [1, 0]), same_items=True)
    assert (same.value, same.low, same.high, same.beyond) == (0, 0, 0, False)
