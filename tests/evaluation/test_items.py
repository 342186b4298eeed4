"""The items that are measured: a bad one is counted and named, not an end."""

import pytest

from modalign.errors import BadSample, ModalignError
from modalign.evaluation.items import load_samples
from modalign.runs.holes import Holes
from modalign.types import Sample


class Split:
    """A source of `size` samples of which those in `bad` do not decode."""

    def __init__(self, size, bad):
        self.size, self.bad = size, bad
        self.recipe = type("Recipe", (), {"name": "digits"})

    def __len__(self):
        return self.size

    def at(self, index):
        if index in self.bad:
            raise BadSample(str(index), "cut short")
        return Sample(str(index), "digits", ())


@pytest.fixture(autouse=True)
def _read_splits(monkeypatch):
    monkeypatch.setattr("modalign.evaluation.items.Source.at", lambda source, index: source.at(index))


def test_a_bad_sample_is_counted_and_the_next_good_one_takes_its_place():
    holes = Holes(0.01)
    found = load_samples(Split(9, bad={0, 3}), 4, "test", holes)
    assert [sample.key for sample in found] == ["1", "2", "4", "5"]
    assert holes.to_dict() == {
        "digits, test": {
            "count": 2,
            "examples": [{"key": "0", "reason": "cut short"}, {"key": "3", "reason": "cut short"}],
        }
    }


def test_what_a_check_refuses_is_a_bad_sample_too():
    def checked(sample):
        if sample.key == "1":
            raise BadSample(sample.key, "too long")
        return sample

    holes = Holes(0.01)
    found = load_samples(Split(9, bad={0}), 2, "val", holes, checked)
    assert [sample.key for sample in found] == ["2", "3"]
    assert [example["reason"] for example in holes.to_dict()["digits, val"]["examples"]] == ["cut short", "too long"]


def test_too_large_a_share_of_bad_samples_is_an_error():
    with pytest.raises(ModalignError, match=r"recipe digits, test: 20 of 120 .*data.max_bad_share=0.01"):
        load_samples(Split(200, bad=set(range(20))), 100, "test", Holes(0.01))


def test_a_split_without_one_good_sample_is_an_error_however_small():
    with pytest.raises(ModalignError, match=r"digits, val: 3 of 3 reads could not be used.*`modalign verify digits --"):
        load_samples(Split(3, bad={0, 1, 2}), 3, "val", Holes(0.01))


def test_every_reading_is_judged_by_itself():
    """A share below what is allowed stays below it, however often the split is read."""
    holes, split = Holes(0.02, once=True), Split(200, bad={3, 50})
    for _ in range(4):
        assert len(load_samples(split, 150, "test", holes)) == 150
    assert holes.to_dict()["digits, test"]["count"] == 2
