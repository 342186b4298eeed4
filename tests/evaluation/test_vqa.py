"""VQA accuracy: worked by hand from the published rule, its normalisation case by case."""

import pytest

from modalign.evaluation.vqa import _CONTRACTIONS, vqa_accuracy, vqa_normalise


def annotators(**counts):
    return [answer for answer, count in counts.items() for _ in range(count)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Yes.", "yes"),
        ("The  red bus", "red bus"),
        ("two", "2"),
        ("None", "0"),
        ("dont", "don't"),
        ("hadntve know", "hadntve know"),
        ("hadnt've", "hadn't've"),
        ("hadn'tve", "hadn't've"),
        ("somebody'd", "somebodyd"),
        ("ows'at", "ows'at"),
        ("red, white", "red white"),
        ("red,white", "red white"),
        ("10,000", "10000"),
        ("t-shirt", "t shirt"),
        ("t - shirt", "t shirt"),
        ("3.5 m.", "3.5 m"),
        ("im", "im"),
        ("Who's there?", "who's there"),
        (" a\tcat\n", "cat"),
        ("", ""),
    ],
)
def test_answers_are_normalised_as_the_official_script_does(text, expected):
    assert vqa_normalise(text) == expected


def test_the_table_of_contractions_has_the_size_of_the_official_one_without_the_forms_of_i():
    # 120 entries there; four forms of "I", and "let's" and "she's", which stand for themselves, never change a word.
    assert len(_CONTRACTIONS) == 120 - 6


@pytest.mark.parametrize(
    ("said", "expected"),
    [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (9, 1.0)],
)
def test_accuracy_leaves_each_annotator_out_in_turn(said, expected):
    """With k of ten: the k who said it see k - 1 others, the rest k; k = 3: (3 * 2/3 + 7 * 1) / 10 = 0.9."""
    others = [f"other {n}" for n in range(10 - said)]
    assert vqa_accuracy("bus", ["bus"] * said + others) == pytest.approx(expected)


def test_where_annotators_differ_both_sides_are_normalised_and_where_all_agree_neither():
    assert vqa_accuracy("The two.", annotators(two=5, three=5)) == 1.0
    assert vqa_accuracy("Two", ["two"] * 10) == 0.0
    assert vqa_accuracy("two", ["two"] * 10) == 1.0


def test_two_annotators_who_agree_cannot_reach_the_full_score():
    assert vqa_accuracy("yes", ["yes", "yes"]) == pytest.approx(1 / 3)
    assert vqa_accuracy("yes", []) == 0.0
