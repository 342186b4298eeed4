"""Letters, classes, yes and no: what a free answer counts for, and what it does not."""

import pytest

from modalign.errors import ModalignError
from modalign.evaluation.choices import ClassList, chosen_letter, contains, yes_or_no

OPTIONS = ["a dog", "a cat", "two birds"]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("B", 1),
        ("B.", 1),
        ("(C)", 2),
        ("C. two birds", 2),
        ("B: because it purrs", 1),
        ("The answer is B", 1),
        ("Answer: (A)", 0),
        ("a cat", 1),
        ("A a dog", 0),
        ("Two birds.", 2),
        ("A dog and a cat", None),
        ("A cat", 1),
        ("D", None),
        ("", None),
        ("b", None),
        ("the option I'd take", None),
    ],
)
def test_an_answer_chooses_by_letter_or_by_the_words_of_one_option(answer, expected):
    assert chosen_letter(answer, OPTIONS) == expected


def test_options_of_equal_words_are_not_chosen_by_them():
    assert chosen_letter("red", ["red", "red"]) is None
    assert chosen_letter("B", ["red", "red"]) == 1


SCENES = ClassList({"living_room": [], "office": ["home office", "workplace"], "others": ["gym"]})


@pytest.mark.parametrize(
    ("answer", "label", "right"),
    [
        ("This is a living room.", "living_room", True),
        ("living_room", "living_room", True),
        ("A home office", "office", True),
        ("office or living room", "office", False),
        ("a room", "living_room", False),
        ("others", "gym", True),
        ("", "office", False),
    ],
)
def test_a_class_is_right_where_it_alone_is_named(answer, label, right):
    assert SCENES.is_right(answer, label) is right


def test_a_label_outside_the_list_is_an_error_that_names_the_nearest():
    with pytest.raises(ModalignError, match=r"offic.*did you mean 'office'\?"):
        SCENES.of("offic")
    with pytest.raises(ModalignError, match="empty"):
        ClassList([])


def test_yes_and_no_are_looked_for_in_the_first_four_characters():
    assert [yes_or_no(text) for text in ("Yes, it is", "NO", " no.", "It is not", "")] == [
        "yes",
        "no",
        "no",
        None,
        None,
    ]


def test_either_text_may_hold_the_other():
    assert contains("A guitar", "guitar")
    assert contains("man", "woman")  # the rule is that generous
    assert not contains("", "guitar")
