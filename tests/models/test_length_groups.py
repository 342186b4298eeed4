"""Grouping by length changes what is computed, not what comes out."""

import random

import torch

from modalign.models.length_groups import COST_OF_A_GROUP, length_groups
from modalign.models.loss import LossOutput, joined


def test_every_row_is_in_one_group_and_padding_never_grows():
    rng = random.Random(0)
    for _ in range(50):
        lengths = [rng.randint(1, 200) for _ in range(rng.randint(1, 64))]
        groups = length_groups(lengths)
        assert sorted(row for rows in groups for row in rows) == list(range(len(lengths)))
        padded = sum(max(lengths[r] for r in rows) * len(rows) for rows in groups)
        assert padded <= max(lengths) * len(lengths)


def test_rows_of_equal_length_stay_together():
    assert length_groups([40] * 32) == [list(range(32))]


def test_one_long_row_is_set_apart_where_it_pays():
    lengths = [20] * 31 + [20 + COST_OF_A_GROUP]
    groups = length_groups(lengths)
    assert groups[0] == [31]
    assert len(groups) == 2


def test_per_sample_sums_come_back_in_the_order_of_the_batch():
    def output(values):
        tensor = torch.tensor(values)
        return LossOutput(tensor.sum(), torch.tensor(float(len(values))), tensor, torch.ones(len(values)))

    whole = joined([output([3.0, 1.0]), output([2.0])], [[2, 0], [1]])
    assert whole.per_sample_sum.tolist() == [1.0, 2.0, 3.0]
    assert float(whole.loss_sum) == 6.0
