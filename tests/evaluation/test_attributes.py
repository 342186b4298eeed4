"""Attribute accuracy: what counts as named, and what guessing would give."""

import pytest

from modalign.errors import ModalignError
from modalign.evaluation.attributes import attribute_accuracy, attribute_hits, named_values

VALUES = {
    "colour": ["red", "green", "blue"],
    "place": ["left", "right", "top left"],
    "number": {"1": ["one", "a"], "2": ["two"], "3": ["three", "3"]},
}


def test_only_whole_words_name_a_value():
    assert named_values("a bored greenish cube", VALUES["colour"]) == set()
    assert named_values("A RED-green cube.", VALUES["colour"]) == {"red", "green"}


def test_the_longer_wording_uses_up_its_words():
    assert named_values("a cube at the top left", VALUES["place"]) == {"top left"}
    assert named_values("top left, then left", VALUES["place"]) == {"top left", "left"}


def test_wordings_name_their_value():
    assert named_values("3 cubes", VALUES["number"]) == {"3"}
    assert attribute_hits("a red cube", {"number": "1", "colour": "red"}, VALUES) == {"number": True, "colour": True}


def test_a_regular_plural_names_its_value_unless_it_is_a_value_of_its_own():
    assert named_values("three red cubes and boxes", ["cube", "box", "ball"]) == {"cube", "box"}
    assert named_values("two pairs", ["pair", "pairs"]) == {"pairs"}
    assert named_values("ones", VALUES["number"]) == set()


def test_naming_several_values_is_wrong_and_naming_the_right_one_twice_is_right():
    assert not attribute_hits("red or blue", {"colour": "red"}, VALUES)["colour"]
    assert attribute_hits("red, really red", {"colour": "red"}, VALUES)["colour"]


def test_accuracy_is_the_mean_over_items_with_details_by_attribute():
    captions = ["a red cube left", "a blue cube left", "two green cubes"]
    attributes = [{"colour": "red", "place": "left"}, {"colour": "red", "place": "left"}, {"colour": "green"}]
    score = attribute_accuracy(captions, attributes, VALUES, "image", "test")
    assert score.value == pytest.approx((1 + 0.5 + 1) / 3)
    assert (score.modality, score.task, score.split, score.n) == ("image", "caption", "test", 3)
    assert score.low <= score.value <= score.high
    colour, place = score.detail["colour"], score.detail["place"]
    assert (colour.value, colour.n, colour.chance) == (pytest.approx(2 / 3), 3, pytest.approx(2 / 3))
    assert (place.value, place.n, place.chance) == (1.0, 2, 1.0)
    assert score.chance == pytest.approx(((2 / 3 + 1) / 2 * 2 + 2 / 3) / 3)
    assert colour.low < colour.value < colour.high


def test_always_naming_the_most_frequent_values_scores_exactly_the_majority_chance():
    attributes = [{"colour": c, "place": p} for c, p in [("red", "left"), ("red", "right"), ("blue", "left")]]
    score = attribute_accuracy(["red left"] * 3, attributes, VALUES, "image", "test")
    assert score.value == pytest.approx(score.chance)


def test_uniform_chance_is_one_over_the_number_of_values():
    score = attribute_accuracy(["red"], [{"colour": "red"}], VALUES, "image", "test", chance="uniform")
    assert score.chance == pytest.approx(1 / 3)


def test_all_items_right_still_has_an_interval():
    score = attribute_accuracy(["red"] * 300, [{"colour": "red"}] * 300, VALUES, "image", "test")
    assert 0.98 < score.low < 0.99
    assert score.high == 1


def test_an_unknown_attribute_or_value_is_an_error_that_names_the_nearest():
    with pytest.raises(ModalignError, match="did you mean 'colour'"):
        attribute_accuracy(["red"], [{"color": "red"}], VALUES, "image", "test")
    with pytest.raises(ModalignError, match="unknown value of attribute 'colour' 'redd'"):
        attribute_accuracy(["red"], [{"colour": "redd"}], VALUES, "image", "test")
    with pytest.raises(ModalignError, match="no item"):
        attribute_accuracy(["red"], [{}], VALUES, "image", "test")
