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

# By attribute: how a value is supposed.
CLOSED: Mapping[str, str] = {
    "shape": "is it a {}",
    "colour": "is it {}",
    "size": "is it {}",
    "place": "is it at the {}",
    "count": "is the number {}",
    "motion": "does it move {}",
    "speed": "is it {}",
    "timbre": "does it sound like a {}",
    "pitch": "is the pitch {}",
    "rhythm": "does it sound {}",
    "loudness": "is the sound {}",
    "form": "is it {}",
    "distance": "is it {}",
    "activity": "is the wearer {}",
    "pose": "is the wearer {}",
}
CLOSED_OF: Mapping[str, Mapping[str, str]] = {"imu": {"speed": "is the wearer {}"}}

# Comparisons that need both sensors of a pair: question, and for each sensor the attribute with its values in step.
COMPARISONS: Mapping[tuple[str, str], tuple[str, str, str]] = {
    ("image", "audio"): ("are there as many things as sounds?", "count", "rhythm"),
    ("video", "imu"): ("are the thing and the wearer at the same pace?", "speed", "speed"),
    ("point", "depth"): ("do both have the same shape?", "shape", "shape"),
}
# Of questions over two sensors: the share that asks for two values, and for yes or no to two claims; the rest
# compares.
OPEN_SHARE, CLOSED_SHARE = 0.6, 0.25


def _pick(rng: np.random.Generator, values: tuple[str, ...] | list[str]) -> str:
    return values[int(rng.integers(len(values)))]


def open_question(rng: np.random.Generator, sensor: str, attribute: str) -> str:
    """How one asks a sensor for an attribute, without the question mark."""
    return _pick(rng, _wordings(sensor, attribute))


def _wordings(sensor: str, attribute: str) -> tuple[str, ...]:
    return OPEN_OF.get(sensor, {}).get(attribute) or OPEN[attribute]


def claim(sensor: str, attribute: str, value: str) -> str:
    """How one supposes that an attribute has a value, without the question mark."""
    return (CLOSED_OF.get(sensor, {}).get(attribute) or CLOSED[attribute]).format(value)


def ask(rng: np.random.Generator, sensor: str, scene: Scene, attribute: str, claims: bool = True) -> Turn:
    """A question for one attribute, open three times of four, else a claim that holds half of the time.

    Without `claims` they are asked openly, from the same draws, so that a sample's files do not hang on its questions.
    """
    if rng.random() < 0.75:
        return {"question": open_question(rng, sensor, attribute) + "?", "answer": scene[attribute]}
    holds = rng.random() < 0.5
    value = scene[attribute] if holds else _other(rng, sensor, attribute, scene[attribute])
    if claims:
        return {"question": claim(sensor, attribute, value) + "?", "answer": "yes" if holds else "no"}
    return {"question": _wordings(sensor, attribute)[not holds] + "?", "answer": scene[attribute]}


def conversation(
    rng: np.random.Generator, sensor: str, scene: Scene, num_turns: int, claims: bool = True
) -> list[Turn]:
    """`num_turns` turns about different attributes of one scene."""
    names = list(ATTRIBUTES[sensor])
    order = rng.permutation(len(names))[:num_turns]
    return [ask(rng, sensor, scene, names[int(i)], claims) for i in order]


def pair_question(
    rng: np.random.Generator, sensors: tuple[str, str], scenes: tuple[Scene, Scene], claims: bool = True
) -> Turn:
    """A question that needs both sensors: two values ("red, bell"), two claims, or a comparison.

    Without `claims`, those ask for two values too.
    """
    kind = rng.random()
    if kind > OPEN_SHARE + CLOSED_SHARE and sensors in COMPARISONS:
        question, first, second = COMPARISONS[sensors]
        same = _rank(sensors[0], first, scenes[0]) == _rank(sensors[1], second, scenes[1])
        return {"question": question, "answer": "yes" if same else "no"}
    first, second = _distinct_attributes(rng, sensors)
    if not OPEN_SHARE <= kind <= OPEN_SHARE + CLOSED_SHARE:
        asked = f"{open_question(rng, sensors[0], first)} and {open_question(rng, sensors[1], second)}?"
        return {"question": asked, "answer": f"{scenes[0][first]}, {scenes[1][second]}"}
    wrong = int(rng.integers(2)) if rng.random() < 0.5 else None
    values = [scenes[0][first], scenes[1][second]]
    if wrong is not None:
        values[wrong] = _other(rng, sensors[wrong], (first, second)[wrong], values[wrong])
    if claims:
        asked = f"{claim(sensors[0], first, values[0])} and {claim(sensors[1], second, values[1])}?"
        return {"question": asked, "answer": "yes" if wrong is None else "no"}
    asked = f"{_wordings(sensors[0], first)[0]} and {_wordings(sensors[1], second)[-1]}?"
    return {"question": asked, "answer": f"{scenes[0][first]}, {scenes[1][second]}"}


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
