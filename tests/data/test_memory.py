"""What is kept in memory: bounded, the least recently used going first, the same for every use of it."""

from __future__ import annotations

import pickle

import pytest

from modalign.data.memory import MemoryCache


def test_memory_keeps_the_last_pieces_and_no_more():
    cache, fetched = MemoryCache(100, len), []

    def get(name):
        return cache.get(name, lambda: (fetched.append(name), b"x" * 40)[1])

    for name in "abacada":
        get(name)
    assert fetched == ["a", "b", "c", "d"]
    cache.forget("a")
    get("a")
    assert fetched[-1] == "a"


def test_what_was_found_counts_as_used():
    cache = MemoryCache(80, len)
    for name in "ab":
        cache.put(name, b"x" * 40)
    assert cache.find("a")
    cache.put("c", b"x" * 40)
    assert [cache.find(name) is not None for name in "abc"] == [True, False, True]


@pytest.mark.parametrize("stays", [False, True])
def test_what_is_larger_than_the_bound_is_kept_only_where_the_newest_stays(stays):
    cache = MemoryCache(10, len, newest_stays=stays)
    cache.put("small", b"x")
    cache.put("large", b"x" * 11)
    assert (cache.find("large") is not None) == stays
    cache.put("small", b"x")
    assert cache.find("small") == b"x"
    assert cache.find("large") is None
    assert len(cache) == 1


def test_another_process_gets_an_empty_one_of_the_same_bound():
    cache = MemoryCache(10, len, newest_stays=True)
    cache.put("a", b"x")
    copy = pickle.loads(pickle.dumps(cache))
    assert (len(copy), copy.max_bytes, copy.newest_stays) == (0, 10, True)
