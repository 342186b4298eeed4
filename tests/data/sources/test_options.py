"""Choices of a question as datasets write them: lists, columns, numbers, letters, words."""

import pytest

from modalign.data.sources.options import choices_of, filled, lettered, shuffled
from modalign.data.sources.words import Words


@pytest.mark.parametrize(
    ("options", "answer", "said", "expected"),
    [
        ("choices", "answer", 1, (["red", "blue"], 1)),
        ("choices", "answer", "1", (["red", "blue"], 1)),
        ("choices", "answer", "B", (["red", "blue"], 1)),
        ("choices", "answer", "blue", (["red", "blue"], 1)),
        (["a", "b", "c"], "answer", "A", (["one", "two"], 0)),
        (["a", "b"], "b", "two", (["one", "two"], 1)),
    ],
)
def test_the_right_choice_is_found_however_it_is_written(options, answer, said, expected):
    row = {"choices": ["red", "blue"], "a": "one", "b": " two ", "c": "nan", "answer": said}
    assert choices_of(row, options, answer, said) == expected


@pytest.mark.parametrize("said", [None, "", "C", 2, "green"])
def test_a_question_without_a_right_choice_is_left_out_with_a_reason(said):
    with pytest.raises(ValueError, match="no right choice"):
        choices_of({"choices": ["red", "blue"]}, "choices", "answer", said)


def test_the_order_of_choices_hangs_on_the_question_alone_and_keeps_the_right_one():
    choices = ["one", "two", "three", "four"]
    orders = {tuple(shuffled(choices, 0, f"question {n}")[0]) for n in range(20)}
    assert len(orders) > 5
    mixed, right = shuffled(choices, 0, "question 1")
    assert (mixed, right) == shuffled(choices, 0, "question 1")
    assert mixed[right] == "one"


def test_places_in_angle_brackets_are_filled_in_their_order():
    assert filled("Is the <Object> left of the <Object>?", '["flute", "drum"]') == "Is the flute left of the drum?"
    assert filled("Is it?", "[]") == "Is it?"
    with pytest.raises(ValueError, match="no list"):
        filled("Is it?", "flute")


def test_a_prompt_with_options_asks_them_and_one_without_leaves_them_to_the_record():
    row = {"question": "Which?", "choices": ["red", "blue"], "answer": 1, "id": 7}
    fields = {"question": "question", "answer": "answer", "options": "choices"}
    (turn,) = Words(**fields, prompt="{question} {options}").record([row])["conversation"]
    assert turn == {"question": "Which? A. red B. blue", "answer": "B"}
    record = Words(**fields, keep={"id": "id", "name": "{id}:{question}"}).record([row])
    assert record["conversation"] == [{"question": "Which?", "answer": "B", "options": ["red", "blue"]}]
    assert record["kept"] == {"id": 7, "name": "7:Which?"}
    assert lettered([]) == ""


def test_several_peoples_answers_become_one_turn():
    rows = [{"q": "Rain?", "a": answer} for answer in ("no", "yes", "yes")]
    record = Words(question="q", answer="a", one_question=True).record(rows)
    assert record["conversation"] == [{"question": "Rain?", "answer": "yes", "answers": ["no", "yes", "yes"]}]
