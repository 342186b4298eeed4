"""The words for what a sensor shows: captions, and the attributes that a text names."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from modalign.errors import unknown_name
from modalign.world.scene import ATTRIBUTES, SENSORS, SHAPES, Scene

PLURALS = {shape: shape + "s" for shape in SHAPES}

# By sensor: caption templates. {shapes} and {is_are} agree with the count.
TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "image": (
        "{count} {size} {colour} {shapes} at the {place}",
        "there {is_are} {count} {size} {colour} {shapes} at the {place}",
        "at the {place} {is_are} {count} {size} {colour} {shapes}",
    ),
    "video": (
        "a {speed} {colour} {shape} moving {motion}",
        "a {colour} {shape} that moves {motion} at a {speed} pace",
        "moving {motion} is a {speed} {colour} {shape}",
    ),
    "point": (
        "a {form} {colour} {shape}",
        "a {colour} {shape} that is {form}",
        "a solid {form} {shape} in {colour}",
    ),
    "audio": (
        "a {loudness} {pitch} {timbre} sounds {rhythm}",
        "{rhythm} a {loudness} {timbre} with a {pitch} pitch",
        "the sound of a {pitch} {timbre}, {loudness}, heard {rhythm}",
    ),
    "depth": (
        "a {distance} {shape} at the {place}",
        "at the {place} is a {distance} {shape}",
        "a {shape} at the {place} that is {distance}",
    ),
    "normal": (
        "the surface of a {size} {shape} at the {place}",
        "at the {place} is the surface of a {size} {shape}",
        "a {size} {shape} surface at the {place}",
    ),
    "imu": (
        "the {pose} wearer is {activity} at a {speed} pace",
        "{speed} {activity} while {pose}",
        "the wearer is {pose} and {activity} in a {speed} way",
    ),
    "fmri": (
        "the viewer sees a {colour} {shape} at the {place}",
        "seeing a {colour} {shape} at the {place}",
        "the viewer looks at a {colour} {shape} on the {place}",
    ),
}

# By sensor: what a person asks for a caption.
DESCRIBE: Mapping[str, tuple[str, ...]] = {
    "image": ("describe the image.", "what is in the picture?"),
    "video": ("describe the video.", "what happens in the video?"),
    "point": ("describe the point cloud.", "what is the solid?"),
    "audio": ("describe the sound.", "what do you hear?"),
    "depth": ("describe the depth map.", "what does the depth map show?"),
    "normal": ("describe the normal map.", "what does the normal map show?"),
    "imu": ("describe the motion.", "what does the wearer do?"),
    "fmri": ("describe what the viewer sees.", "what does the viewer see?"),
}

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

_WORD = re.compile(r"[a-z]+")


def captions_of(sensor: str, scene: Mapping[str, str]) -> list[str]:
    """Every caption of the scene: one for each of the sensor's templates."""
    several = scene.get("count", "one") != "one"
    shape = scene.get("shape", "")
    forms = {"shapes": PLURALS.get(shape, shape) if several else shape, "is_are": "are" if several else "is"}
    return [template.format(**scene, **forms) for template in TEMPLATES[sensor]]


def caption_of(rng: np.random.Generator, sensor: str, scene: Scene) -> str:
    """One caption of the scene, its template drawn."""
    captions = captions_of(sensor, scene)
    return captions[int(rng.integers(len(captions)))]


def _readings(sensor: str) -> dict[str, dict[str, str]]:
    """By attribute: word -> value, plurals included."""
    words = {name: {value: value for value in values} for name, values in ATTRIBUTES[sensor].items()}
    for shape, plural in PLURALS.items():
        if shape in words.get("shape", {}):
            words["shape"][plural] = shape
    return words


_READINGS = {sensor: _readings(sensor) for sensor in SENSORS}


def attributes_in(text: str, sensor: str) -> dict[str, str | None]:
    """By attribute of the sensor: the value that the text names, None where it names none or several."""
    if sensor not in _READINGS:
        raise unknown_name("sensor", sensor, SENSORS, "the embedded world")
    words = _WORD.findall(text.lower())
    named = {name: {reading[word] for word in words if word in reading} for name, reading in _READINGS[sensor].items()}
    return {name: next(iter(values)) if len(values) == 1 else None for name, values in named.items()}
