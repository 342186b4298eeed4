"""Decoding on several cores: the same samples in the same order, where they are large enough."""

from __future__ import annotations

import pickle
import threading

import numpy as np
import pytest
import torch

from modalign.data import spread
from modalign.data.collate import Collator
from modalign.data.dataset import Source
from modalign.data.decoders import ImageDecoder
from modalign.data.order import Stream
from modalign.data.reader import ShardReader
from modalign.data.slices import SliceDataset
from modalign.data.spread import LARGE_BYTES, Spread
from modalign.data.templates import CaptionTemplate


class OneSource:
    def at(self, n):
        return "greys", n


def names(number):
    return number, threading.current_thread().name


@pytest.mark.parametrize(
    ("threads", "size", "spreads"), [(2, LARGE_BYTES, True), (2, LARGE_BYTES - 1, False), (1, LARGE_BYTES, False)]
)
def test_large_samples_are_decoded_by_threads_and_stay_in_order(threads, size, spreads):
    made = Spread(threads).map(names, range(20), 20 * size)
    assert [number for number, _ in made] == list(range(20))
    assert any("decoding" in name for _, name in made) == spreads


def test_in_another_process_there_is_one_thread():
    used = Spread(4)
    used.map(names, range(2), 2 * LARGE_BYTES)
    assert pickle.loads(pickle.dumps(used)).threads == 1


def test_a_slice_is_the_same_whatever_the_threads_bad_samples_included(
    tmp_path, make_split, make_recipe_object, monkeypatch
):
    monkeypatch.setattr(spread, "LARGE_BYTES", 1)
    folder = make_split(tmp_path / "train", 12)
    batches = []
    for threads in (1, 3):
        decoder = ImageDecoder(8, scale=(0.3, 1.0))

        def noisy(data, rng, decoder=decoder):
            if rng is not None and np.frombuffer(data, np.uint8).sum() % 4 == 0:
                raise ValueError("refused")
            return decoder(data, rng)

        source = Source(
            make_recipe_object(), ShardReader(folder), {"image": noisy}, CaptionTemplate(), Stream(12, 0), {}
        )
        batches.append(
            SliceDataset({"greys": source}, OneSource(), 12, 0, 1, Collator(str.encode, 1, 2), threads=threads)[0]
        )
    one, other = batches
    assert one.keys == other.keys
    assert one.holes == other.holes
    assert torch.equal(one.media["image"].values, other.media["image"].values)
