"""Whether a sensor is used: models that ignore it, use it, and use it half of the time."""

import pytest
import torch

from modalign.evaluation.probes.inputs import exchanged, input_use
from modalign.types import MediaBatch


def test_an_ignored_input_is_found_out(priced, batch):
    use = input_use(priced(lambda medium, word: 0.1 * word), batch(1, 2, 3, 4), "smell")
    assert use.real == use.shuffled == use.blank == pytest.approx(0.25)
    assert (use.gain, use.low, use.high) == (0.0, 0.0, 0.0)
    assert not use.used


def test_an_input_that_the_answer_hangs_on_is_seen_to_be_used(priced, batch):
    use = input_use(priced(lambda medium, word: float(medium != word)), batch(1, 2, 3, 4), "smell")
    assert (use.real, use.shuffled, use.blank) == (0.0, 1.0, 1.0)
    assert (use.gain, use.low, use.high) == (1.0, 1.0, 1.0)
    assert use.used


def test_a_gain_in_some_items_has_an_interval_around_it(priced, batch):
    words = range(1, 41)
    use = input_use(priced(lambda medium, word: float(medium != word and word % 2)), batch(*words), "smell")
    assert use.gain == pytest.approx(0.5)
    assert 0.3 < use.low < 0.5 < use.high < 0.7


def test_an_input_that_only_confuses_is_not_called_used(priced, batch):
    use = input_use(priced(lambda medium, word: float(medium == word)), batch(1, 2, 3, 4), "smell")
    assert use.gain == -1.0
    assert not use.used


@pytest.mark.parametrize("count", [2, 3, 16])
@pytest.mark.parametrize("seed", range(5))
def test_no_medium_keeps_its_place_and_each_keeps_its_variant(count, seed):
    media = MediaBatch(torch.arange(float(count)).unsqueeze(1), tuple(f"v{i}" for i in range(count)))
    state = torch.get_rng_state()
    moved = exchanged(media, seed)
    places = [int(value) for value in moved.values[:, 0]]
    assert sorted(places) == list(range(count))
    assert all(place != i for i, place in enumerate(places))
    assert moved.variants == tuple(f"v{place}" for place in places)
    assert torch.equal(torch.get_rng_state(), state)
