"""The splits, and which combinations of attributes only test_unseen has."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from modalign.world.scene import ATTRIBUTES, Scene, draw_scene

SPLITS = ("train", "val", "test", "test_unseen")
UNSEEN = "test_unseen"

# By sensor: the two attributes of which some combinations are held out. Shape and colour are held out alike in every
# sensor that shows both, so that no earlier modality gives a combination away.
UNSEEN_PAIR: Mapping[str, tuple[str, str]] = {
    "image": ("shape", "colour"),
    "video": ("shape", "colour"),
    "point": ("shape", "colour"),
    "audio": ("timbre", "rhythm"),
    "depth": ("shape", "place"),
    "normal": ("shape", "place"),
    "imu": ("activity", "pose"),
    "fmri": ("shape", "colour"),
}


@lru_cache(maxsize=64)
def held_out(seed: int, sensor: str) -> frozenset[tuple[str, str]]:
    """The combinations that only test_unseen has: at most a fifth of all, and at most one for a value of the first.

    Consecutive values of the first take different values of the second as long as there are any, so that training
    still has every value of both in other company.
    """
    first, second = UNSEEN_PAIR[sensor]
    firsts, seconds = ATTRIBUTES[sensor][first], ATTRIBUTES[sensor][second]
    firsts = _shuffled(firsts, f"{seed} {first} {second} first")
    seconds = _shuffled(seconds, f"{seed} {first} {second} second")
    count = min(len(firsts), len(firsts) * len(seconds) // 5)
    return frozenset((firsts[i], seconds[i % len(seconds)]) for i in range(count))


def _shuffled(values: tuple[str, ...], salt: str) -> list[str]:
    return sorted(values, key=lambda value: hashlib.sha256(f"{salt} {value}".encode()).hexdigest())


def is_unseen(seed: int, sensor: str, scene: Mapping[str, str]) -> bool:
    """Whether a scene holds a combination that training never has."""
    first, second = UNSEEN_PAIR[sensor]
    return (scene[first], scene[second]) in held_out(seed, sensor)


def draw_scene_of(rng: np.random.Generator, seed: int, sensor: str, split: str) -> Scene:
    """A scene that belongs to the split: a held-out combination in test_unseen, none anywhere else."""
    scene = draw_scene(rng, sensor)
    if split == UNSEEN:
        pairs = sorted(held_out(seed, sensor))
        first, second = UNSEEN_PAIR[sensor]
        scene[first], scene[second] = pairs[int(rng.integers(len(pairs)))]
        return scene
    while is_unseen(seed, sensor, scene):
        scene = draw_scene(rng, sensor)
    return scene
