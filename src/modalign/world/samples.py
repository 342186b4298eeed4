"""Samples of every recipe of a world, each a pure function of (seed, recipe, split, index)."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from modalign.errors import unknown_name
from modalign.world.catalogue import PAIR_RECIPES, RECIPES, SENSOR_RECIPES, pair_extensions
from modalign.world.corpus import described_chat, document, fact_chat
from modalign.world.difficulty import TEXT_RECIPES, WorldSettings
from modalign.world.questions import conversation, match_for_comparison, pair_question
from modalign.world.scene import EXTENSIONS, Scene
from modalign.world.sensors import RENDERERS, SUBJECTS
from modalign.world.splits import SPLITS, UNSEEN, draw_scene_of, is_unseen
from modalign.world.words import captions_of

# A sample: its key and its members by extension.
Members = tuple[str, dict[str, bytes]]


def sample_rng(seed: int, recipe: str, split: str, index: int) -> np.random.Generator:
    """The generator of one sample: independent of how many others are made, and of their order."""
    return np.random.default_rng([seed, zlib.crc32(recipe.encode()), zlib.crc32(split.encode()), index])


def world_sample(settings: WorldSettings, recipe: str, split: str, index: int) -> Members:
    """Sample number `index` of a recipe's split."""
    rng = sample_rng(settings.seed, recipe, split, index)
    if recipe in SENSOR_RECIPES:
        members = _sensor_sample(settings, SENSOR_RECIPES[recipe], split, rng, index)
    elif recipe in PAIR_RECIPES:
        members = _pair_sample(settings, PAIR_RECIPES[recipe], split, rng)
    elif recipe == TEXT_RECIPES[0]:
        members = {"json": _json({"text": document(rng)})}
    elif recipe == TEXT_RECIPES[1]:
        turns = described_chat(rng) if rng.random() < 0.75 else fact_chat(rng)
        members = {"json": _json({"conversation": turns})}
    else:
        raise unknown_name("recipe", recipe, RECIPES, "the embedded world")
    return f"{split}-{index:06d}", members


def world_samples(settings: WorldSettings, recipe: str, split: str) -> Iterator[Members]:
    """All samples of a recipe's split, in order."""
    if recipe not in RECIPES:
        raise unknown_name("recipe", recipe, RECIPES, "the embedded world")
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS, recipe)
    for index in range(settings.count(recipe, split)):
        yield world_sample(settings, recipe, split, index)


def _sensor_sample(
    settings: WorldSettings, sensor: str, split: str, rng: np.random.Generator, index: int
) -> dict[str, bytes]:
    scene = draw_scene_of(rng, settings.seed, sensor, split)
    captions = captions_of(sensor, scene)
    record: dict[str, Any] = {"caption": captions[int(rng.integers(len(captions)))], "captions": captions}
    # One turn outside training: an answer is then scored by itself.
    num_turns = int(rng.integers(1, 4)) if split == SPLITS[0] else 1
    # No claims: a language model of the embedded width does not learn to check one, not even in text.
    record["conversation"] = conversation(rng, sensor, scene, num_turns, claims=False)
    record["attributes"] = scene
    subjects = SUBJECTS.get(sensor, (None,))
    subject = subjects[index % len(subjects)]
    if subject is not None:
        record["subject"] = subject
    media = RENDERERS[sensor](scene, settings.difficulty, rng, settings.seed, subject)
    return {EXTENSIONS[sensor]: media, "json": _json(record)}


def _pair_sample(
    settings: WorldSettings, sensors: tuple[str, str], split: str, rng: np.random.Generator
) -> dict[str, bytes]:
    scenes = _pair_scenes(settings, sensors, split, rng)
    turn = pair_question(rng, sensors, scenes, claims=False)
    record = {"conversation": [turn], "attributes": dict(zip(sensors, scenes, strict=True))}
    members = {"json": _json(record)}
    for sensor, scene in zip(sensors, scenes, strict=True):
        media = RENDERERS[sensor](scene, settings.difficulty, rng, settings.seed, None)
        members[pair_extensions(sensors)[sensor]] = media
    return members


def _pair_scenes(
    settings: WorldSettings, sensors: tuple[str, str], split: str, rng: np.random.Generator
) -> tuple[Scene, Scene]:
    """Two scenes of the split; what is made to agree for a comparison is drawn again if it leaves the split."""
    while True:
        first, second = (draw_scene_of(rng, settings.seed, sensor, split) for sensor in sensors)
        scenes = (first, second)
        match_for_comparison(rng, sensors, scenes)
        if all(
            is_unseen(settings.seed, s, scene) == (split == UNSEEN) for s, scene in zip(sensors, scenes, strict=True)
        ):
            return scenes


def _json(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode()
