"""Questions and short answers about scenes: of one sensor, of two sensors together, and in several turns."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from modalign.errors import unknown_name
from modalign.world.scene import ATTRIBUTES, Scene

# A turn of a conversation: {"question": ..., "answer": ...}.
Turn = dict[str, str]

# By attribute: how it is asked for. Attributes that need another wording in some sensor are listed below.
OPEN: Mapping[str, tuple[str, ...]] = {
    "shape": ("what shape is it", "which shape is there"),
    "colour": ("what colour is it", "which colour does it have"),
    "size": ("how big is it", "what size is it"),
    "place": ("where is it", "at which side is it"),
    "count": ("how many are there", "how many things are there"),
    "motion": ("where does it move", "which way does it go"),
    "speed": ("how fast is it", "at which pace does it move"),
    "timbre": ("what does it sound like", "what makes the sound"),
    "pitch": ("what pitch does it have", "how high is the sound"),
    "rhythm": ("how often does it sound", "how often is it heard"),
    "loudness": ("how loud is it", "how loud is the sound"),
    "form": ("what form does it have", "is it wide or tall"),
    "distance": ("how far is it", "how far away is it"),
    "activity": ("what does the wearer do", "what is the wearer doing"),
    "pose": ("how is the wearer held", "what is the pose of the wearer"),
}
OPEN_OF: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "imu": {"speed": ("how fast is the wearer", "at which pace does the wearer move")},
}

# By attribute: how one offers two values to choose from. (Claims to be answered by yes or no are left to comparisons:
# a language model of this width does not learn to check a claim against what it was told, not even in text.)
CHOICE: Mapping[str, str] = {
    "shape": "is it a {} or a {}",
    "colour": "is it {} or {}",
    "size": "is it {} or {}",
    "place": "is it at the {} or at the {}",
    "count": "is the number {} or {}",
    "motion": "does it move {} or {}",
    "speed": "is it {} or {}",
    "timbre": "does it sound like a {} or a {}",
    "pitch": "is the pitch {} or {}",
    "rhythm": "does it sound {} or {}",
    "loudness": "is the sound {} or {}",
    "form": "is it {} or {}",
    "distance": "is it {} or {}",
    "activity": "is the wearer {} or {}",
    "pose": "is the wearer {} or {}",
}
CHOICE_OF: Mapping[str, Mapping[str, str]] = {"imu": {"speed": "is the wearer {} or {}"}}

# Comparisons that need both sensors of a pair: question, and for each sensor the attribute with its values in step.
COMPARISONS: Mapping[tuple[str, str], tuple[str, str, str]] = {
    ("image", "audio"): ("are there as many things as sounds?", "count", "rhythm"),
    ("video", "imu"): ("are the thing and the wearer at the same pace?", "speed", "speed"),
    ("point", "depth"): ("do both have the same shape?", "shape", "shape"),
}
# Of questions over two sensors: the share that asks for two values, and that offers two for each; the rest compares.
OPEN_SHARE, CHOICE_SHARE = 0.6, 0.25


def _pick(rng: np.random.Generator, values: tuple[str, ...] | list[str]) -> str:
    return values[int(rng.integers(len(values)))]


def open_question(rng: np.random.Generator, sensor: str, attribute: str) -> str:
    """How one asks a sensor for an attribute, without the question mark."""
    return _pick(rng, OPEN_OF.get(sensor, {}).get(attribute) or OPEN[attribute])


def choice_question(rng: np.random.Generator, sensor: str, attribute: str, value: str) -> str:
    """How one asks a sensor which of two values an attribute has, in any order, without the question mark."""
    offered = [value, _other(rng, sensor, attribute, value)]
    first = int(rng.integers(2))
    return (CHOICE_OF.get(sensor, {}).get(attribute) or CHOICE[attribute]).format(offered[first], offered[1 - first])


def ask(rng: np.random.Generator, sensor: str, scene: Scene, attribute: str) -> Turn:
    """A question for one attribute, open three times of four, else a choice between two values."""
    if rng.random() < 0.75:
        asked = open_question(rng, sensor, attribute)
    else:
        asked = choice_question(rng, sensor, attribute, scene[attribute])
    return {"question": f"{asked}?", "answer": scene[attribute]}


def conversation(rng: np.random.Generator, sensor: str, scene: Scene, num_turns: int) -> list[Turn]:
    """`num_turns` turns about different attributes of one scene."""
    names = list(ATTRIBUTES[sensor])
    order = rng.permutation(len(names))[:num_turns]
    return [ask(rng, sensor, scene, names[int(i)]) for i in order]


def pair_question(rng: np.random.Generator, sensors: tuple[str, str], scenes: tuple[Scene, Scene]) -> Turn:
    """A question that needs both sensors: two values ("red, bell"), two choices, or a comparison (yes or no)."""
    kind = rng.random()
    if kind > OPEN_SHARE + CHOICE_SHARE and sensors in COMPARISONS:
        question, first, second = COMPARISONS[sensors]
        same = _rank(sensors[0], first, scenes[0]) == _rank(sensors[1], second, scenes[1])
        return {"question": question, "answer": "yes" if same else "no"}
    offers = OPEN_SHARE <= kind <= OPEN_SHARE + CHOICE_SHARE
    asked, values = [], []
    for sensor, scene, attribute in zip(sensors, scenes, _distinct_attributes(rng, sensors), strict=True):
        values.append(scene[attribute])
        if offers:
            asked.append(choice_question(rng, sensor, attribute, values[-1]))
        else:
            asked.append(open_question(rng, sensor, attribute))
    return {"question": f"{asked[0]} and {asked[1]}?", "answer": ", ".join(values)}


def match_for_comparison(rng: np.random.Generator, sensors: tuple[str, str], scenes: tuple[Scene, Scene]) -> None:
    """Makes the compared attributes agree in place half of the time, so that yes and no are about as frequent."""
    if sensors in COMPARISONS and rng.random() < 0.4:
        _, first, second = COMPARISONS[sensors]
        scenes[1][second] = ATTRIBUTES[sensors[1]][second][_rank(sensors[0], first, scenes[0])]


def pair_name(sensors: tuple[str, str]) -> str:
    """The name of two sensors together, as in recipes: image_audio."""
    return "_".join(sensors)


def _rank(sensor: str, attribute: str, scene: Scene) -> int:
    return ATTRIBUTES[sensor][attribute].index(scene[attribute])


def _other(rng: np.random.Generator, sensor: str, attribute: str, value: str) -> str:
    return _pick(rng, [other for other in ATTRIBUTES[sensor][attribute] if other != value])


def _distinct_attributes(rng: np.random.Generator, sensors: tuple[str, str]) -> tuple[str, str]:
    """One attribute of each sensor; one that both show would not say which sensor is meant."""
    first, second = (set(ATTRIBUTES[sensor]) for sensor in sensors)
    own = [sorted(first - second), sorted(second - first)]
    if not all(own):
        raise unknown_name("pair of sensors", pair_name(sensors), map(pair_name, COMPARISONS), "the embedded world")
    return _pick(rng, own[0]), _pick(rng, own[1])
