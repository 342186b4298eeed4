"""The recipes of a world: one for each sensor, for each pair of sensors, and two of text alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modalign.errors import unknown_name
from modalign.world.difficulty import PAIRS, TEXT_RECIPES, WorldSettings, settings_of
from modalign.world.questions import pair_name
from modalign.world.scene import EXTENSIONS, SENSORS
from modalign.world.splits import SPLITS

SENSOR_RECIPES = {f"world_{sensor}": sensor for sensor in SENSORS}
PAIR_RECIPES = {f"world_pairs_{pair_name(sensors)}": sensors for sensors in PAIRS}
RECIPES = (*SENSOR_RECIPES, *PAIR_RECIPES, *TEXT_RECIPES)


def pair_extensions(sensors: tuple[str, str]) -> dict[str, str]:
    """By sensor of a pair: the extension of its member, led by the sensor's name (point.npy, imu.npy)."""
    return {sensor: f"{sensor}.{EXTENSIONS[sensor]}" for sensor in sensors}


def num_samples(world: WorldSettings | Mapping[str, Any], recipe: str, split: str) -> int:
    """How many samples a world's settings give a recipe's split; 0 where it has no such split."""
    if recipe not in RECIPES:
        raise unknown_name("recipe", recipe, RECIPES, "the embedded world")
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS, recipe)
    return settings_of(world).count(recipe, split)
