"""What there is to perceive: the attributes of a scene, which sensor shows which of them, and how a scene is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

SHAPES = ("ball", "cube", "cone", "ring")
COLOURS = ("red", "green", "blue", "yellow", "purple", "white")
SIZES = ("small", "large")
PLACES = ("left", "right", "top", "bottom")
COUNTS = ("one", "two", "three")
MOTIONS = ("left", "right", "up", "down")
SPEEDS = ("slow", "fast")
TIMBRES = ("bell", "buzz", "whistle", "hiss", "drum")
PITCHES = ("low", "high")
RHYTHMS = ("once", "twice", "thrice")
LOUDNESSES = ("quiet", "loud")
FORMS = ("wide", "tall")
DISTANCES = ("near", "far")
ACTIVITIES = ("walking", "shaking", "spinning", "jumping")
POSES = ("upright", "sideways", "flat")

# Scene: the value of each attribute that one sensor shows, by attribute.
Scene = dict[str, str]

# By sensor: the attributes that it shows, and the values of each. The order of sensors is that of dataset size.
ATTRIBUTES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "image": {"shape": SHAPES, "colour": COLOURS, "size": SIZES, "place": PLACES, "count": COUNTS},
    "video": {"shape": SHAPES, "colour": COLOURS, "motion": MOTIONS, "speed": SPEEDS},
    "point": {"shape": SHAPES, "colour": COLOURS, "form": FORMS},
    "audio": {"timbre": TIMBRES, "pitch": PITCHES, "rhythm": RHYTHMS, "loudness": LOUDNESSES},
    "depth": {"shape": SHAPES, "place": PLACES, "distance": DISTANCES},
    "normal": {"shape": SHAPES, "size": SIZES, "place": PLACES},
    "imu": {"activity": ACTIVITIES, "speed": SPEEDS, "pose": POSES},
    "fmri": {"shape": SHAPES, "colour": COLOURS, "place": PLACES},
}

SENSORS = tuple(ATTRIBUTES)

# Media types: the extension under which a sensor's file is stored.
EXTENSIONS: Mapping[str, str] = {
    "image": "jpg", "video": "mp4", "point": "npy", "audio": "flac",
    "depth": "png", "normal": "png", "imu": "npy", "fmri": "npy",
}  # fmt: skip


def draw_scene(rng: np.random.Generator, sensor: str) -> Scene:
    """A scene as one sensor shows it: every attribute uniform over its values."""
    return {name: values[int(rng.integers(len(values)))] for name, values in ATTRIBUTES[sensor].items()}


def chance(sensor: str) -> dict[str, float]:
    """By attribute: the accuracy of a guess that ignores the input (all values are equally frequent)."""
    return {name: 1.0 / len(values) for name, values in ATTRIBUTES[sensor].items()}
