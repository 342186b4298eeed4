"""What becomes of columns: captions, questions with task prompts, options, regions, conversations."""

import pytest

from modalign.data.sources.words import make_words
from modalign.errors import ModalignError


def record(words, *rows):
    return make_words(words).record(rows)


def test_captions_come_from_a_column_a_template_or_several_rows():
    assert record({"caption": "c"}, {"c": " a  bus "}) == {"caption": "a bus"}
    assert record({"caption": "a {colour} {kind}"}, {"colour": "red", "kind": "bus"}) == {"caption": "a red bus"}
    assert record({"caption": "c"}, {"c": "one"}, {"c": "two"}, {"c": "one"}, {"c": ""}) == {"captions": ["one", "two"]}
    assert record({"caption": "c"}, {"c": [{"raw": "x"}, {"raw": "y"}]}) == {"captions": ["x", "y"]}
    with pytest.raises(ValueError, match="no caption"):
        record({"caption": "c"}, {"c": None})
    with pytest.raises(ValueError, match="no 'c' in the row"):
        record({"caption": "c"}, {"d": 1})


def test_narrations_lose_their_marks_and_those_of_others_are_left_out():
    words = {"caption": "t", "containing": "#C", "replace": {"#C C ": "", "#unsure": "something"}}
    assert record(words, {"t": "#C C lifts #unsure"}) == {"caption": "lifts something"}
    with pytest.raises(ValueError, match="its caption lacks '#C'"):
        record(words, {"t": "#O a man walks"})


def test_questions_carry_their_task_prompt_and_lists_are_several_turns():
    prompt = "{question} Answer the question using a single word or phrase."
    words = {"question": "q", "answer": "a", "prompt": prompt}
    said = record(words, {"q": "Who?", "a": "Ann"}, {"q": "", "a": "x"}, {"q": "Why?", "a": None})
    asked = "Who? Answer the question using a single word or phrase."
    assert said == {"conversation": [{"question": asked, "answer": "Ann"}]}
    lists = record({"question": "q", "answer": "a"}, {"q": ["1?", "2?"], "a": ["one", "two"]})
    assert [turn["answer"] for turn in lists["conversation"]] == ["one", "two"]


def test_of_several_answers_the_commonest_counts_and_all_are_kept():
    answers = [{"answer": "car"}, {"answer": "bus"}, {"answer": "bus"}]
    (turn,) = record({"question": "q", "answer": "a", "answers": "a"}, {"q": "?", "a": answers})["conversation"]
    assert turn == {"question": "?", "answer": "bus", "answers": ["car", "bus", "bus"]}


def test_options_are_lettered_and_a_spoilt_question_costs_only_itself():
    words = {"question": "q", "answer": "n", "options": "o", "prompt": "{question} {options} Letter?"}
    good, bad = {"q": "Who?", "n": 1, "o": ["dog", "man"]}, {"q": "Who?", "n": 5, "o": ["dog"]}
    assert record(words, bad, good)["conversation"] == [{"question": "Who? A. dog B. man Letter?", "answer": "B"}]
    with pytest.raises(ValueError, match="no right choice"):
        record(words, bad)


def test_a_region_is_told_in_shares_of_the_picture():
    words = {"answer": "p", "prompt": "What? {region}", "region": {"box": "box", "size": ["w", "h"]}}
    (turn,) = record(words, {"p": "a bus", "box": [50, 0, 100, 25], "w": 100, "h": 50})["conversation"]
    assert turn["question"] == "What? [0.50, 0.00, 1.00, 0.50]"
    with pytest.raises(ValueError, match="without a size"):
        record(words, {"p": "a bus", "box": [0, 0, 1, 1], "w": 0, "h": 50})


def test_conversations_keep_whole_pairs_and_a_system_text():
    speakers = ("system", "gpt", "human", "gpt", "user")
    texts = ("Be kind.", "lost", "<image>\nHi", "Hello\nyou", "and?")
    talk = [{"from": speaker, "value": text} for speaker, text in zip(speakers, texts, strict=True)]
    said = record({"conversations": "c", "marks": ["<image>"]}, {"c": talk})
    assert said == {"conversation": [{"question": "Hi", "answer": "Hello\nyou"}], "system": "Be kind."}
    with pytest.raises(ValueError, match="unknown speaker 'alien'"):
        record({"conversations": "c"}, {"c": [{"from": "alien", "value": "x"}]})


def test_a_variant_is_kept_as_the_subject():
    assert record({"caption": "c", "variant": "s"}, {"c": "x", "s": 1})["subject"] == "1"


@pytest.mark.parametrize("words", [{}, {"caption": "c", "answer": "a"}, {"answer": "a"}, {"captions": "c"}])
def test_words_that_say_too_little_or_too_much_are_refused(words):
    with pytest.raises(ModalignError, match="words: "):
        make_words(words)
