"""A bootstrap over items is what drawing them one resample after another would give."""

from __future__ import annotations

import numpy as np
import pytest

from modalign.evaluation import intervals
from modalign.evaluation.intervals import RESAMPLES, SEED, bootstrap, bootstrap_mean


def drawn_one_by_one(table, statistic):
    """The interval by indices, a resample at a time."""
    rng = np.random.Generator(np.random.PCG64(SEED))
    values = [statistic(table[rng.integers(0, len(table), size=len(table))]) for _ in range(RESAMPLES)]
    return tuple(np.quantile(values, [0.025, 0.975]))


@pytest.mark.parametrize("at_once", [1, 700, 1 << 20])
def test_all_resamples_at_once_or_some_at_a_time_are_those_drawn_one_by_one(at_once, monkeypatch):
    monkeypatch.setattr(intervals, "_DRAWN_AT_ONCE", at_once)
    table = np.random.default_rng(0).random((37, 2))
    found = bootstrap(table, lambda sums: sums[:, 0] / sums[:, 1])
    assert found == pytest.approx(drawn_one_by_one(table, lambda rows: rows[:, 0].sum() / rows[:, 1].sum()))


def test_the_interval_of_a_mean_is_that_of_its_items():
    items = np.random.default_rng(1).random(50)
    assert bootstrap_mean(items) == pytest.approx(drawn_one_by_one(items, np.mean))
