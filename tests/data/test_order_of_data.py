"""The order of data: bijections for many sizes, locality of the block shuffle, and nothing remembered."""

import numpy as np
import pytest

from modalign.data.order import BlockShuffle, Permutation, Stream, derive_seed
from modalign.errors import ModalignError

SIZES = [*range(1, 70), 127, 128, 129, 255, 257, 1000, 4095, 4097]


@pytest.mark.parametrize("n", SIZES)
def test_a_permutation_visits_every_item_once(n):
    for seed in (0, 1, 2**63 + 5):
        assert sorted(map(Permutation(n, seed), range(n))) == list(range(n))


@pytest.mark.parametrize("n", [1, 2, 3, 63, 64, 65, 1000, 1023, 1024, 1025, 3000])
@pytest.mark.parametrize(("block", "window"), [(1, 1), (1, 16), (4, 3), (7, 2), (64, 16), (256, 16), (5000, 1)])
def test_a_block_shuffle_visits_every_sample_once(n, block, window):
    for seed in range(2):
        assert sorted(map(BlockShuffle(n, seed, block, window), range(n))) == list(range(n))


def test_permutations_of_other_seeds_are_other_orders():
    n = 500
    orders = {tuple(map(Permutation(n, seed), range(n))) for seed in range(20)}
    assert len(orders) == 20


def test_every_order_of_four_items_occurs():
    orders = {tuple(map(Permutation(4, seed), range(4))) for seed in range(2000)}
    assert len(orders) == 24


def test_a_permutation_spreads_items_evenly_over_positions():
    n, seeds = 16, 3000
    counts = np.zeros((n, n))
    for seed in range(seeds):
        order = Permutation(n, seed)
        for position in range(n):
            counts[position, order(position)] += 1
    expected = seeds / n
    chi_square = ((counts - expected) ** 2 / expected).sum(axis=1)
    # 15 degrees of freedom: 99.99 % of uniform draws stay below 44, and there are 16 rows.
    assert chi_square.max() < 50


def test_a_permutation_of_a_trillion_items_costs_nothing():
    order = Permutation(10**12, 3)
    found = [order(position) for position in range(1000)]
    assert len(set(found)) == 1000
    assert max(found) > 9 * 10**11


def _seek_per_read(order, positions, block, kept_blocks):
    """How far, in samples, a disk's head travels a read, when the block around each first touch is fetched whole."""
    kept, head, travelled = [], 0, 0
    for position in positions:
        number = order(position) // block
        if number not in kept:
            travelled += abs(number * block - head)
            head = (number + 1) * block
            kept = [*kept[-kept_blocks + 1 :], number]
    return travelled / len(positions)


def test_block_shuffled_reads_are_near_sequential():
    n, block, window = 100_000, 256, 16
    stretch = range(20 * block * window, 22 * block * window)
    blocked = _seek_per_read(BlockShuffle(n, 1, block, window), stretch, block, 2 * window)
    scattered = _seek_per_read(Permutation(n, 1), stretch, block, 2 * window)
    assert scattered > n / 4
    assert blocked < scattered / 150


def test_a_window_of_positions_is_a_few_contiguous_runs():
    shuffle = BlockShuffle(100_000, 1, block=256, window=16)
    for start in (0, 4096, 5000, 96_000):
        touched = np.sort([shuffle(position) for position in range(start, min(start + 4096, 100_000))])
        assert 1 + (np.diff(touched) > 256).sum() <= 33


def test_block_shuffled_neighbours_come_from_all_over_the_data():
    shuffle = BlockShuffle(100_000, 1)
    batch = [shuffle(position) for position in range(4096, 4096 + 64)]
    assert len({index // 256 for index in batch}) > 8
    assert np.std(batch) > 15_000


def test_each_pass_has_its_own_order_and_each_position_its_sample():
    stream = Stream(100, seed=4, block=8, window=4)
    first, second = [stream(p) for p in range(100)], [stream(p) for p in range(100, 200)]
    assert {epoch for epoch, _ in first} == {0}
    assert {epoch for epoch, _ in second} == {1}
    assert sorted(index for _, index in second) == list(range(100))
    assert [index for _, index in first] != [index for _, index in second]
    # Nothing is remembered: any position, asked alone and late, is what it was.
    assert Stream(100, seed=4, block=8, window=4)(163) == second[63]
    assert stream(5) == first[5]


def test_an_order_without_shuffling_is_the_order_on_disk():
    stream = Stream(10, seed=0, shuffle=False)
    assert [stream(p) for p in (0, 9, 10, 23)] == [(0, 0), (0, 9), (1, 0), (2, 3)]


def test_positions_outside_are_refused():
    for order in (Permutation(5, 0), BlockShuffle(5, 0)):
        for position in (-1, 5):
            with pytest.raises(IndexError):
                order(position)
    with pytest.raises(ModalignError, match="without samples"):
        Stream(0, 0)
    with pytest.raises(ModalignError, match="at least 1"):
        BlockShuffle(5, 0, block=0)


def test_derived_seeds_tell_their_parts_apart():
    seeds = {derive_seed(0, "a", 1), derive_seed(0, "a1"), derive_seed(0, "a", "1"), derive_seed(1, "a", 1)}
    assert len(seeds) == 4
    # The same on every machine and in every version: an order that a run has begun must not change.
    assert derive_seed(7, "x") == 0x41C7211250EDE7B0
    assert [Permutation(10, 3)(p) for p in range(10)] == [8, 6, 2, 4, 7, 1, 3, 5, 0, 9]
