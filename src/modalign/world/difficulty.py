"""What a world is made from: name, seed, sizes, and how hard it is, as numbers that a researcher turns."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from modalign.errors import ModalignError, unknown_name
from modalign.world.scene import SENSORS
from modalign.world.splits import SPLITS

if TYPE_CHECKING:  # what checks a command line does not wait for numpy
    import numpy as np

# Raised by whoever changes what a seed renders to: worlds on disk are then made again instead of silently reused.
FORMAT = 1
# Pairs of sensors that questions are asked about; the last two have no training split in the shipped worlds.
PAIRS = (("image", "audio"), ("video", "imu"), ("point", "depth"), ("depth", "audio"), ("point", "imu"))
# What world.sizes may name: sensors, pairs of sensors, and text alone.
SIZED = (*SENSORS, *(f"pairs_{first}_{second}" for first, second in PAIRS), "text", "chat")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
# Scarcity is of sensors: text stays cheap.
TEXT_RECIPES = ("world_text", "world_chat")

# One unit of overlap: standard deviation of a two-level attribute (small, large) as a share of the gap between levels.
SPREAD = 0.19


@dataclass(frozen=True, slots=True)
class Difficulty:
    """Multipliers of what a sensor suffers; 1 is the standard world, 0 switches the effect off.

    noise: sensor noise (pixels, samples, points, millimetres, m/s², voxels). clutter: background structure that is not
    the thing. overlap: how far the levels of an attribute reach into each other. jitter: free variation of position,
    brightness, orientation. scarcity: share of the training samples that is left out, in [0, 1).
    """

    noise: float = 1.0
    clutter: float = 1.0
    overlap: float = 1.0
    jitter: float = 1.0
    scarcity: float = 0.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 10:
                raise ModalignError(f"world.difficulty.{name} is {value!r}: give a number from 0 to 10")
        if self.scarcity >= 1:
            raise ModalignError(f"world.difficulty.scarcity is {self.scarcity}: no training sample is left; give less")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Difficulty:
        """The difficulty that a configuration states; absent keys are the standard's, unknown keys an error."""
        known = [f.name for f in fields(cls)]
        for name in values:
            if name not in known:
                raise unknown_name("setting", str(name), known, "world.difficulty")
        return cls(**values)

    def level(self, rng: np.random.Generator, index: int, centres: Sequence[float]) -> float:
        """A number drawn around the level `index` of evenly spaced centres, in the centres' unit."""
        gap = abs(centres[1] - centres[0])
        return float(centres[index] + rng.standard_normal() * gap * SPREAD * self.overlap)


@dataclass(frozen=True, slots=True)
class WorldSettings:
    """The settings of a world; `sizes` maps a recipe without its prefix (image, text, ...) to split and count."""

    name: str
    seed: int = 0
    difficulty: Difficulty = field(default_factory=Difficulty)
    sizes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise ModalignError(f"world.seed is {self.seed!r}: give a whole number from 0")
        if not _NAME.fullmatch(self.name):
            raise ModalignError(f"world.name is '{self.name}': use small letters, digits, - and _")
        for recipe, splits in self.sizes.items():
            if recipe not in SIZED:
                raise unknown_name("recipe", recipe, SIZED, "world.sizes")
            for split, count in splits.items():
                if split not in SPLITS:
                    raise unknown_name("split", split, SPLITS, f"world.sizes.{recipe}")
                if isinstance(count, bool) or not isinstance(count, int) or count < 0:
                    raise ModalignError(f"world.sizes.{recipe}.{split} is {count!r}: give a whole number from 0")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> WorldSettings:
        """The settings that a configuration states, with plain dictionaries inside."""
        known = ["name", "seed", "difficulty", "sizes"]
        for name in values:
            if name not in known:
                raise unknown_name("setting", str(name), known, "world")
        if not values.get("name"):
            raise ModalignError("world.name is missing: the name leads the world's folder; give it a short one")
        sizes = {str(recipe): dict(splits) for recipe, splits in dict(values.get("sizes") or {}).items()}
        difficulty = Difficulty.from_mapping(dict(values.get("difficulty") or {}))
        return cls(str(values["name"]), values.get("seed", 0), difficulty, sizes)

    def count(self, recipe: str, split: str) -> int:
        """Samples of a recipe's split after scarcity; 0 where the settings name none."""
        count = self.sizes.get(recipe.removeprefix("world_"), {}).get(split, 0)
        if split == "train" and self.difficulty.scarcity and recipe not in TEXT_RECIPES:
            return max(1, round(count * (1 - self.difficulty.scarcity))) if count else 0
        return count

    @property
    def folder_name(self) -> str:
        """The world's folder: its name and 8 hex digits of everything that changes its bytes."""
        return f"{self.name}-{digest_of(self)[:8]}"


def digest_of(settings: WorldSettings) -> str:
    """SHA-256 hex of the settings, without the name, with the generator's format."""
    sizes = {recipe: dict(splits) for recipe, splits in settings.sizes.items()}
    difficulty = {name: float(value) for name, value in asdict(settings.difficulty).items()}
    meaning = {"format": FORMAT, "seed": settings.seed, "difficulty": difficulty, "sizes": sizes}
    return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()


def load_settings(path: Path) -> WorldSettings:
    """The settings in a YAML such as conf/world/standard.yaml; the file's stem is the name where it states none."""
    if not path.is_file():
        raise ModalignError(f"world settings {path} do not exist: name a YAML like conf/world/standard.yaml")
    values = yaml.safe_load(path.read_text()) or {}
    if not isinstance(values, dict):
        raise ModalignError(f"world settings {path} hold a {type(values).__name__}: they must be a mapping")
    return WorldSettings.from_mapping({"name": path.stem, **values})


def settings_of(world: WorldSettings | Mapping[str, Any]) -> WorldSettings:
    """World settings from what a configuration holds, or as they are."""
    return world if isinstance(world, WorldSettings) else WorldSettings.from_mapping(world)


def world_folder(world: WorldSettings | Mapping[str, Any]) -> str:
    """The name of a world's folder, as standard-0a1b2c3d."""
    return settings_of(world).folder_name
