"""The world's words: readable back, closed, balanced, and every attribute sayable by the language model."""

import numpy as np
import pytest

from modalign.errors import ModalignError
from modalign.world.corpus import plain_text, vocabulary
from modalign.world.difficulty import PAIRS
from modalign.world.questions import conversation, match_for_comparison, pair_question
from modalign.world.scene import ATTRIBUTES, SENSORS, chance, draw_scene
from modalign.world.words import TEMPLATES, attributes_in, captions_of


def test_a_text_that_names_no_value_or_several_names_none():
    assert attributes_in("a ball or a cube", "point") == {"shape": None, "colour": None, "form": None}
    assert attributes_in("Two RED balls.", "image")["colour"] == "red"
    assert attributes_in("Two RED balls.", "image")["shape"] == "ball"
    with pytest.raises(ModalignError, match="did you mean 'audio'"):
        attributes_in("a bell", "audoi")


def test_every_attribute_has_its_chance_and_every_template_names_every_attribute():
    rng = np.random.default_rng(0)
    for sensor in SENSORS:
        assert chance(sensor) == {name: 1 / len(values) for name, values in ATTRIBUTES[sensor].items()}
        scene = draw_scene(rng, sensor)
        captions = captions_of(sensor, scene)
        assert len(set(captions)) == len(TEMPLATES[sensor]) >= 3
        assert all(attributes_in(caption, sensor) == scene for caption in captions)


def test_the_corpus_says_every_attribute_word_and_is_the_same_for_a_seed():
    texts = plain_text(3, 4000)
    assert texts[:50] == plain_text(3, 50)
    assert not set(plain_text(3, 50, held_out=True)) <= set(texts[:50])
    words = set(" ".join(texts).replace(",", " ").split())
    for shown in ATTRIBUTES.values():
        assert {value for values in shown.values() for value in values} <= words
    assert {"handwritten", "zero", "nine", "yes", "no"} <= words


def test_the_vocabulary_is_closed_and_small():
    words = set(vocabulary())
    assert len(words) < 250
    for text in plain_text(99, 300):
        assert set("".join(letter if letter.isalpha() else " " for letter in text).split()) <= words


def test_answers_are_short_and_yes_is_about_as_frequent_as_no():
    rng = np.random.default_rng(0)
    answers = []
    for _ in range(2000):
        sensor = SENSORS[int(rng.integers(len(SENSORS)))]
        answers += [turn["answer"] for turn in conversation(rng, sensor, draw_scene(rng, sensor), 2)]
    assert max(len(answer.split()) for answer in answers) == 1
    closed = [answer for answer in answers if answer in ("yes", "no")]
    assert 0.45 < closed.count("yes") / len(closed) < 0.55


def test_samples_hold_no_claims_and_their_files_do_not_hang_on_how_they_are_asked_about():
    scene = draw_scene(np.random.default_rng(3), "image")
    for seed in range(40):
        told, asked = np.random.default_rng(seed), np.random.default_rng(seed)
        conversation(told, "image", scene, 3)
        assert all(turn["answer"] in scene.values() for turn in conversation(asked, "image", scene, 3, claims=False))
        assert told.random() == asked.random()


@pytest.mark.parametrize("sensors", PAIRS)
def test_questions_over_two_sensors_need_both(sensors):
    rng = np.random.default_rng(1)
    kinds = {"open": 0, "yes": 0, "no": 0}
    for _ in range(800):
        scenes = draw_scene(rng, sensors[0]), draw_scene(rng, sensors[1])
        match_for_comparison(rng, sensors, scenes)
        turn = pair_question(rng, sensors, scenes)
        if turn["answer"] in kinds:
            kinds[turn["answer"]] += 1
            continue
        kinds["open"] += 1
        first, second = turn["answer"].split(", ")
        assert first in scenes[0].values()
        assert second in scenes[1].values()
    assert kinds["open"] > 400
    assert 0.35 < kinds["yes"] / (kinds["yes"] + kinds["no"]) < 0.65
