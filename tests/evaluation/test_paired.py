"""Paired differences: what is equal in both arms cancels, and the interval knows of seeds and of items."""

import numpy as np
import pytest

from modalign.errors import ModalignError
from modalign.evaluation.paired import difference, mean_of


def drawn(seed, chance, count=200):
    rng = np.random.default_rng(seed)
    return (rng.random(count) < chance).astype(float).tolist()


def test_equal_arms_differ_by_nothing_with_no_doubt():
    arm = {0: {"image": drawn(0, 0.5)}, 1: {"image": drawn(1, 0.5)}}
    found = difference(arm, arm, ["image"])
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_the_difference_is_the_mean_over_scores_seeds_and_items():
    arm = {0: {"image": [1, 1, 0, 0], "audio": [1, 1]}, 1: {"image": [1, 1, 1, 1], "audio": [0, 0]}}
    base = {0: {"image": [0, 1, 0, 0], "audio": [1, 0]}, 1: {"image": [1, 1, 1, 0], "audio": [0, 0]}}
    found = difference(arm, base, ["image", "audio"])
    assert found.value == pytest.approx((0.25 + 0.25) / 2)
    assert found.by_seed == {0: pytest.approx((0.25 + 0.5) / 2), 1: pytest.approx(0.125)}
    assert found.low <= found.value <= found.high


def test_pairing_narrows_the_interval_where_items_are_alike():
    """One arm answers what the other does, and a few items more: unpaired, items' own spread would drown it."""
    base = {seed: {"image": drawn(seed, 0.5)} for seed in range(3)}
    arm = {seed: {"image": [max(v, float(i % 10 == 0)) for i, v in enumerate(base[seed]["image"])]} for seed in base}
    paired = difference(arm, base, ["image"])
    alone = mean_of(arm, ["image"])
    assert paired.low > 0
    assert paired.high - paired.low < alone.high - alone.low


def test_seeds_that_disagree_widen_the_interval():
    zeros = {seed: {"image": [0.0] * 100} for seed in range(3)}
    agree = {seed: {"image": drawn(9, 0.5, 100)} for seed in range(3)}
    apart = {seed: {"image": drawn(9, 0.1 + 0.4 * seed, 100)} for seed in range(3)}
    widths = [(d := difference(arm, zeros, ["image"])).high - d.low for arm in (agree, apart)]
    assert widths[1] > 1.5 * widths[0]


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    """Items of one seed, true difference 0.2: of 40 intervals at least 34 hold it."""
    held = 0
    for number in range(40):
        arm, base = {0: {"image": drawn(2 * number, 0.7)}}, {0: {"image": drawn(2 * number + 1, 0.5)}}
        found = difference(arm, base, ["image"])
        held += found.low <= 0.2 <= found.high
    assert 34 <= held < 40


def test_only_seeds_that_both_arms_have_are_compared():
    arm = {0: {"image": [1.0, 1.0]}, 1: {"image": [0.0, 0.0]}}
    assert difference(arm, {0: {"image": [0.0, 0.0]}}, ["image"]).by_seed == {0: 1.0}
    assert difference(arm, {5: {"image": [0.0, 0.0]}}, ["image"]) is None


def test_arms_measured_on_different_items_are_no_pair():
    with pytest.raises(ModalignError, match="2 items in one arm, 3 in the baseline"):
        difference({0: {"image": [1, 0]}}, {0: {"image": [1, 0, 1]}}, ["image"])


def test_other_items_are_refused_though_they_are_as_many():
    arm, base = {0: {"image": [1, 0]}}, {0: {"image": [0, 0]}}
    same, other = {0: {"image": "aa"}}, {0: {"image": "bb"}}
    assert difference(arm, base, ["image"], (same, same)).value == 0.5
    assert difference(arm, base, ["image"], (same, {0: {"image": ""}})).value == 0.5, "not known of older results"
    with pytest.raises(ModalignError, match="image, seed 0: the arm was measured on other items"):
        difference(arm, base, ["image"], (same, other))
