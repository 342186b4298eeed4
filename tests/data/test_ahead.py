"""A thread that makes slices ready: the same items in the same order, errors where they belong, no thread left."""

import threading
import time

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from modalign.data.ahead import Ahead


class Numbers(Dataset):
    """Number n, made by whoever asks; fails at `bad`."""

    def __init__(self, total=20, bad=None):
        self.total, self.bad, self.made = total, bad, []

    def __len__(self):
        return self.total

    def __getitem__(self, n):
        if n == self.bad:
            raise OSError("the disk is gone")
        self.made.append((n, threading.current_thread().name, torch.get_num_threads()))
        return torch.tensor(n)


def ahead(numbers, count=3):
    return Ahead(DataLoader(numbers, batch_size=None), count)


def threads_left():
    return [thread for thread in threading.enumerate() if thread.name == "slices ahead"]


def test_items_come_in_order_from_another_thread_that_computes_with_one_core():
    numbers, threads = Numbers(), torch.get_num_threads()
    loader = ahead(numbers)
    assert [int(item) for item in loader] == list(range(20))
    assert [int(item) for item in loader] == list(range(20))
    assert len(loader) == 20
    assert {(name, cores) for _, name, cores in numbers.made} == {("slices ahead", 1)}
    assert torch.get_num_threads() == threads
    assert not threads_left()


def test_no_more_is_made_than_was_asked_for_and_the_count_beyond():
    numbers = Numbers(1000)
    items = iter(ahead(numbers, count=3))
    assert int(next(items)) == 0
    deadline = time.monotonic() + 10
    while len(numbers.made) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    assert len(numbers.made) == 5  # one given, three in the queue, one in the thread's hand
    items.close()
    assert not threads_left()
    assert len(numbers.made) <= 6


def test_an_error_is_raised_at_its_own_item():
    items = iter(ahead(Numbers(bad=4)))
    assert [int(next(items)) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(OSError, match="the disk is gone"):
        next(items)
    assert not threads_left()
