"""Scores of texts: hand-computed cases, agreement with pycocoevalcap on the whole set, honest intervals."""

import shutil

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from modalign.errors import ModalignError
from modalign.evaluation.intervals import bootstrap_mean, wilson
from modalign.evaluation.metrics import caption_scores, exact_match, is_exact_match
from modalign.evaluation.words import normalise, tokenise, words

REFERENCES = [
    "a small red cube at the left.",
    "two large blue balls at the right.",
    "a large green cone in the middle.",
    "three small yellow cubes at the left.",
    "one small blue cone at the right.",
    "two large red balls in the middle.",
]
GENERATED = [
    "a small red cube at the left",
    "two large blue balls at the left",
    "a large green ball in the middle",
    "three small yellow cubes at the left",
    "two small blue cones at the right",
    "a cube",
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  Two Red-ish cubes!! ", "two red ish cubes"),
        ("-0.5 m, then 3d", "-0.5 m then 3d"),
        ("It's a cube_one", "it's a cube one"),
        ("", ""),
        ("Ein ÄHNLICHER Würfel.", "ein ähnlicher würfel"),
    ],
)
def test_texts_are_normalised_to_their_words(text, expected):
    assert normalise(text) == expected
    assert words(text) == expected.split()


def test_exact_match_ignores_case_punctuation_and_space_but_no_word():
    assert is_exact_match(" Red. ", "red")
    assert is_exact_match("RED", ["blue", "red"])
    assert not is_exact_match("dark red", "red")
    assert not is_exact_match("-5", "5")


def test_exact_match_counts_by_kind_of_question_beside_the_most_frequent_answer():
    score = exact_match(
        ["red", "red", "two", "three"], ["red", "blue", "two", "two"], "image", "test", groups=["c", "c", "n", "n"]
    )
    assert (score.metric, score.task, score.value, score.n) == ("exact_match", "answer", 0.5, 4)
    assert {name: (part.value, part.chance, part.n) for name, part in score.detail.items()} == {
        "c": (0.5, 0.5, 2),
        "n": (0.5, 1.0, 2),
    }
    assert score.chance == 0.75
    assert score.low < 0.5 < score.high


def test_wilson_agrees_with_the_published_example_and_never_claims_certainty():
    low, high = wilson(8, 10)
    assert (low, high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    assert wilson(300, 300)[0] == pytest.approx(0.9874, abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)


def test_bootstrap_is_the_same_on_every_call_and_covers_as_the_normal_interval_does():
    values = np.random.default_rng(0).random(400)
    low, high = bootstrap_mean(values)
    assert (low, high) == bootstrap_mean(values)
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.005)
    assert high == pytest.approx(values.mean() + half, abs=0.005)


def test_a_bootstrap_of_agreeing_shares_is_not_of_zero_width():
    assert bootstrap_mean([1.0] * 300, share=True) == wilson(300, 300)
    assert bootstrap_mean([2.0] * 5) == (2.0, 2.0)


def test_caption_scores_are_those_of_pycocoevalcap():
    scores = {score.metric: score for score in caption_scores(GENERATED, REFERENCES, "image", "test")}
    truths = {i: [normalise(text)] for i, text in enumerate(REFERENCES)}
    guesses = {i: [normalise(text)] for i, text in enumerate(GENERATED)}
    assert scores["cider"].value == pytest.approx(Cider().compute_score(truths, guesses)[0])
    assert scores["bleu4"].value == pytest.approx(Bleu(4).compute_score(truths, guesses, verbose=0)[0][3])
    assert scores["rougeL"].value == pytest.approx(Rouge().compute_score(truths, guesses)[0])
    for score in scores.values():
        assert score.low < score.value < score.high, score
        assert score.n == 6
        assert "simple tokenisation" in score.note


def test_perfect_captions_reach_the_top_of_each_scale():
    scores = {score.metric: score for score in caption_scores(REFERENCES, REFERENCES, "image", "test")}
    assert scores["cider"].value == pytest.approx(10.0)
    assert scores["bleu4"].value == pytest.approx(1.0, abs=1e-6)
    assert scores["rougeL"].value == pytest.approx(1.0)
    assert scores["rougeL"].low < 1


def test_empty_captions_score_nothing_and_do_not_fail():
    scores = {score.metric: score for score in caption_scores([""] * 6, REFERENCES, "image", "test")}
    assert scores["cider"].value == 0
    assert scores["bleu4"].value == pytest.approx(0, abs=1e-6)
    assert scores["rougeL"].value == 0


def test_several_references_count_as_equally_right():
    scores = {s.metric: s.value for s in caption_scores(["a b c d e"] * 2, [["x", "a b c d e"]] * 2, "image", "test")}
    assert scores["bleu4"] == pytest.approx(1.0, abs=1e-6)
    assert scores["rougeL"] == pytest.approx(1.0)


def test_lists_of_different_length_and_unknown_tokenisations_are_refused():
    with pytest.raises(ModalignError, match="1 generated texts for 2 references"):
        caption_scores(["a"], ["a", "b"], "image", "test")
    with pytest.raises(ModalignError, match="'simple' or 'ptb'"):
        tokenise(["a"], "spacy")


@pytest.mark.skipif(shutil.which("java") is None, reason="the PTB tokeniser needs Java")
def test_the_simple_tokenisation_gives_what_the_ptb_tokeniser_gives_on_plain_sentences():
    assert tokenise(REFERENCES, "ptb") == tokenise(REFERENCES, "simple")


def test_the_ptb_tokenisation_without_java_says_what_to_do(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ModalignError, match="needs Java"):
        tokenise(["a"], "ptb")
