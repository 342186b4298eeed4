"""Retrieval of captions: perfect, blind, misled by a likely caption, always wrong."""

import pytest

from modalign.evaluation.probes.retrieval import ROWS, distinct, retrieval

WORDS = tuple(range(1, 11))


def test_inputs_that_find_their_captions_are_all_found(priced, batch):
    found = retrieval(priced(lambda medium, word: abs(medium - word)), batch(*WORDS), "smell", 10)
    assert (found.at_1, found.at_5, found.candidates) == (1.0, 1.0, 10)
    assert (found.chance_1, found.chance_5) == (0.1, 0.5)


def test_an_ignored_input_finds_captions_at_chance_and_no_better(priced, batch):
    found = retrieval(priced(lambda medium, word: 0.3 * word), batch(*WORDS), "smell", 10)
    assert found.at_1 == pytest.approx(found.chance_1)
    assert found.at_5 == pytest.approx(found.chance_5)


def test_a_caption_that_is_likely_whatever_is_sensed_does_not_win(priced, batch):
    cheap = priced(lambda medium, word: (0.0 if word == 1 else 50.0) + (medium != word))
    assert retrieval(cheap, batch(*WORDS), "smell", 10).at_1 == 1.0


def test_a_model_that_takes_each_input_for_its_neighbour_finds_nothing_first(priced, batch):
    found = retrieval(priced(lambda medium, word: min((medium - word - 1) % 10, 9)), batch(*WORDS), "smell", 10)
    assert found.at_1 == 0.0


def test_equal_captions_are_one_candidate(priced, batch):
    several = batch(1, 2, 1, 3, 2)
    assert distinct(several, "smell") == [0, 1, 3]
    assert retrieval(priced(lambda medium, word: abs(medium - word)), several, "smell", 10).candidates == 3
    assert retrieval(priced(lambda medium, word: 0.0), batch(1, 1), "smell", 10) is None


def test_a_medium_is_read_once_however_many_captions_it_is_compared_with(priced, batch):
    model = priced(lambda medium, word: abs(medium - word))
    retrieval(model, batch(*range(1, 41)), "smell", 16)
    assert sum(model.media_seen) == 16
    assert max(model.media_seen) * 16 <= ROWS
