"""The cache of decoded samples: exact, bounded, and blind to what drew randomness."""

import numpy as np
import pytest
import torch

from modalign.stages.decoded import DecodedCache


class Decoder:
    """The bytes as numbers; counts its calls, and adds noise where told to draw."""

    def __init__(self, draws=False):
        self.calls = 0
        self.draws = draws

    def __call__(self, data, rng=None):
        self.calls += 1
        members = data if isinstance(data, tuple) else (data,)
        values = torch.tensor([float(b) for member in members for b in member])
        if self.draws and rng is not None:
            values = values + float(rng.normal())
        return values


def rng(seed=0):
    return np.random.default_rng(seed)


def test_the_same_bytes_are_decoded_once_and_give_the_same_tensor():
    decoder = Decoder()
    cached = DecodedCache(1 << 20).wrap(decoder)
    first, second = cached(b"abc", rng(1)), cached(b"abc", rng(2))
    assert decoder.calls == 1
    assert torch.equal(first, second)
    assert torch.equal(first, Decoder()(b"abc"))


def test_other_bytes_are_another_sample_and_another_decoder_another_result():
    cache = DecodedCache(1 << 20)
    one, two = Decoder(), Decoder()
    first, second = cache.wrap(one), cache.wrap(two)
    assert not torch.equal(first(b"abc", rng()), first(b"abd", rng()))
    second(b"abc", rng())
    assert (one.calls, two.calls) == (2, 1)


def test_a_result_that_drew_from_its_generator_is_never_kept():
    decoder = Decoder(draws=True)
    cached = DecodedCache(1 << 20).wrap(decoder)
    first, second = cached(b"abc", rng(1)), cached(b"abc", rng(2))
    assert decoder.calls == 2
    assert not torch.equal(first, second)
    assert torch.equal(first, Decoder(draws=True)(b"abc", rng(1)))


def test_a_result_without_a_generator_is_neither_kept_nor_wrong():
    """Evaluation decodes without randomness; a decoder may draw when trained on, so that nothing is known of it."""
    decoder = Decoder(draws=True)
    cached = DecodedCache(1 << 20).wrap(decoder)
    assert torch.equal(cached(b"abc"), cached(b"abc"))
    assert not torch.equal(cached(b"abc", rng(1)), cached(b"abc"))


def test_the_oldest_are_dropped_beyond_the_bound():
    decoder = Decoder()
    cache = DecodedCache(max_bytes=3 * 8 * 4)  # three tensors of eight floats
    cached = cache.wrap(decoder)
    for letter in b"abcd":
        cached(bytes([letter]) * 8, rng())
        assert cache._bytes <= cache.max_bytes
    assert decoder.calls == 4
    cached(b"d" * 8, rng())
    assert decoder.calls == 4
    cached(b"a" * 8, rng())
    assert decoder.calls == 5


def test_one_sample_larger_than_the_bound_is_served_but_not_kept():
    cache = DecodedCache(max_bytes=4)
    cached = cache.wrap(Decoder())
    assert cached(b"abc", rng()).tolist() == [97, 98, 99]
    assert cache._bytes == 0


def test_putting_the_same_sample_twice_counts_it_once():
    cache = DecodedCache(max_bytes=1 << 20)
    cache.put((1, b"k"), torch.zeros(4))
    cache.put((1, b"k"), torch.zeros(4))
    assert cache._bytes == 16


def test_without_memory_the_decoder_is_used_as_it_is():
    decoder = Decoder()
    assert DecodedCache(0).wrap(decoder) is decoder


def test_members_that_join_to_the_same_bytes_are_told_apart():
    cached = DecodedCache(1 << 20).wrap(Lengths())
    assert cached((b"ab", b"c"), rng()).tolist() == [2, 1]
    assert cached((b"a", b"bc"), rng()).tolist() == [1, 2]


class Lengths:
    """How long each member is."""

    def __call__(self, data, rng=None):
        return torch.tensor([len(member) for member in data])


@pytest.mark.parametrize("cache_mb", [0, 64])
def test_a_phase_serves_the_same_samples_with_and_without_the_cache(backbones, image, cache_mb):
    more = ("stage=align", "modality=audio", f"data.cache_mb={cache_mb}")
    phase = backbones.phase(*more)
    twice = [phase.slices(3), phase.slices(3)]
    for first, second in zip(*twice, strict=True):
        assert first.keys == second.keys
        for name, media in first.media.items():
            assert torch.equal(media.values, second.media[name].values)
