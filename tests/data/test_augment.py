"""What augmentations do to decoded samples, and that evaluation never sees them."""

import pytest
import torch
from numpy.random import default_rng

from modalign.data.augment import Augmented, Drop, Noise, Roll
from modalign.errors import ModalignError


def test_noise_has_the_spread_that_was_asked_for_and_follows_the_generator():
    values = torch.zeros(6, 5000)
    noisy = Noise(0.5)(values, default_rng(1))
    assert noisy.std().item() == pytest.approx(0.5, rel=0.02)
    assert torch.equal(noisy, Noise(0.5)(values, default_rng(1)))
    assert not torch.equal(noisy, Noise(0.5)(values, default_rng(2)))


def test_roll_keeps_every_value_and_its_channel():
    values = torch.arange(20.0).view(2, 10)
    shifts = {tuple(Roll(3)(values, default_rng(seed))[0].tolist()) for seed in range(60)}
    assert shifts == {tuple(values[0].roll(k).tolist()) for k in range(-3, 4)}


def test_drop_zeroes_its_share():
    kept = Drop(0.25)(torch.ones(20000), default_rng(0))
    assert kept.mean().item() == pytest.approx(0.75, abs=0.02)
    assert set(kept.tolist()) == {0.0, 1.0}


def test_without_a_generator_nothing_changes():
    decoder = Augmented(lambda data, rng: torch.ones(4), [Noise(1.0), Drop(0.5)])
    assert torch.equal(decoder(b"", None), torch.ones(4))
    assert not torch.equal(decoder(b"", default_rng(0)), torch.ones(4))


@pytest.mark.parametrize("make", [lambda: Noise(0), lambda: Roll(0), lambda: Roll(1.5), lambda: Drop(1.0)])
def test_settings_out_of_range_are_refused(make):
    with pytest.raises(ModalignError, match=r"augment \w+: \w+ must"):
        make()
