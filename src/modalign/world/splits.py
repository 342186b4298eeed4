"""The splits, and which combinations of attributes only test_unseen has."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from modalign.world.scene import ATTRIBUTES, Scene, draw_scene

if TYPE_CHECKING:
    import numpy as np

SPLITS = ("train", "val", "test", "test_unseen")
UNSEEN = "test_unseen"

# By sensor: the three attributes of which some combinations are held out. Every two of their values still meet in
# training: where a pair is held out, a network learns from the gap itself to answer anything but the pair (measured:
# shapes in held-out places on depth maps .01, below chance), which says little about how it composes.
COMBINED: Mapping[str, tuple[str, str, str]] = {
    "image": ("shape", "colour", "place"),
    "video": ("shape", "colour", "motion"),
    "point": ("shape", "colour", "form"),
    "audio": ("timbre", "rhythm", "pitch"),
    "depth": ("shape", "place", "distance"),
    "normal": ("shape", "place", "size"),
    "imu": ("activity", "pose", "speed"),
    "fmri": ("shape", "colour", "place"),
}
# About one combination in so many is held out, in fewer where an attribute has more values.
HELD_OUT_EVERY = 5


@lru_cache(maxsize=64)
def held_out(seed: int, sensor: str) -> tuple[tuple[str, str, str], ...]:
    """The combinations that only test_unseen has, a Latin pattern over shuffled values, so that pairs stay seen."""
    names = COMBINED[sensor]
    shuffled = [_shuffled(ATTRIBUTES[sensor][name], f"{seed} {' '.join(names)} {name}") for name in names]
    every = max(HELD_OUT_EVERY, *map(len, shuffled))
    first, second, third = (tuple(enumerate(values)) for values in shuffled)
    return tuple(
        (a, b, c) for (i, a), (j, b), (k, c) in itertools.product(first, second, third) if (i + j + k) % every == 0
    )


def _shuffled(values: tuple[str, ...], salt: str) -> list[str]:
    return sorted(values, key=lambda value: hashlib.sha256(f"{salt} {value}".encode()).hexdigest())


def is_unseen(seed: int, sensor: str, scene: Mapping[str, str]) -> bool:
    """Whether a scene holds a combination that training never has."""
    return tuple(scene[name] for name in COMBINED[sensor]) in held_out(seed, sensor)


def draw_scene_of(rng: np.random.Generator, seed: int, sensor: str, split: str) -> Scene:
    """A scene that belongs to the split: a held-out combination in test_unseen, none anywhere else."""
    scene = draw_scene(rng, sensor)
    while is_unseen(seed, sensor, scene) != (split == UNSEEN):
        scene = draw_scene(rng, sensor)
    return scene
