"""Bad samples, counted."""

import pytest

from modalign.errors import ModalignError
from modalign.runs.holes import NUM_EXAMPLES, Holes


def test_bad_samples_are_counted_by_recipe_and_the_first_named():
    holes = Holes(max_share=0.5)
    for i in range(NUM_EXAMPLES + 5):
        holes.add("world_audio", f"key{i}", "does not decode")
    holes.add("world_image", "key", "has no supervised token")
    entry = holes.to_dict()["world_audio"]
    assert entry["count"] == NUM_EXAMPLES + 5
    assert len(entry["examples"]) == NUM_EXAMPLES
    assert entry["examples"][0] == {"key": "key0", "reason": "does not decode"}


def test_a_sample_that_is_read_again_is_counted_again_and_named_once():
    holes = Holes(max_share=0.5)
    for key in ("a", "b", "a", "a"):
        holes.add("gestures", key, "does not decode")
    entry = holes.to_dict()["gestures"]
    assert entry["count"] == 4
    assert [example["key"] for example in entry["examples"]] == ["a", "b"]


def test_a_resumed_run_goes_on_counting():
    holes = Holes(max_share=0.5)
    holes.add("a", "1", "bad")
    resumed = Holes(max_share=0.5, earlier=holes.to_dict())
    resumed.add("a", "2", "bad")
    assert resumed.to_dict()["a"]["count"] == 2
    assert holes.to_dict()["a"]["count"] == 1


def test_above_the_stated_share_the_run_stops_and_names_recipe_and_sample():
    holes = Holes(max_share=0.01, grace=100)
    holes.add("a", "key7", "does not decode")
    holes.check({"a": 99})
    holes.check({"a": 100})
    holes.add("a", "key8", "does not decode")
    holes.check({"a": 99})
    with pytest.raises(ModalignError, match=r"recipe a: 2 of 150 .*max_bad_share=0.01; the first was key7"):
        holes.check({"a": 150})


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ModalignError, match="from 0 to 1"):
        Holes(max_share=share)


def test_a_run_that_is_over_is_judged_however_few_samples_it_read():
    holes = Holes(0.1, grace=100)
    holes.add("a", "k", "torn")
    holes.check({"a": 4})
    with pytest.raises(ModalignError, match=r"1 of 4 reads could not be used, .*`modalign verify a --decode`"):
        holes.check({"a": 4}, ended=True)


def test_samples_that_are_measured_again_and_again_are_counted_once():
    holes = Holes(max_share=0.5, once=True)
    for key in ("a", "b", "a"):
        holes.add("gestures, test", key, "does not decode")
    holes.add("gestures, val", "a", "does not decode")
    assert {name: entry["count"] for name, entry in holes.to_dict().items()} == {
        "gestures, test": 2,
        "gestures, val": 1,
    }
