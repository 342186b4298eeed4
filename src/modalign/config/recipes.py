"""The recipes a command can see: found by name, sized and identified before torch is imported."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from modalign.config.places import recipe_folder
from modalign.config.schema import Settings
from modalign.data.manifest import MANIFEST_NAME, read_manifest
from modalign.data.recipes import Recipe, find_recipes, load_recipe, recipe_digest
from modalign.data.remote import RemotePath, location
from modalign.errors import ModalignError, unknown_name
from modalign.world.difficulty import WorldSettings


class RecipeBook:
    """All recipes of the shipped and the configured folders, with the world that fills their `{world}`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._loaded: dict[str, Recipe] = {}

    @cached_property
    def paths(self) -> dict[str, Path]:
        """Recipe files by name; own folders win over shipped ones."""
        for own in self.settings.paths.recipes:
            if not Path(own).is_dir():
                raise ModalignError(f"paths.recipes: no folder at {own} (a relative path starts at {Path.cwd()})")
        return find_recipes([*(Path(p) for p in self.settings.paths.recipes), recipe_folder()])

    @cached_property
    def world(self) -> str:
        """The folder name of the configured world: its name and eight hex of its settings."""
        return self.world_settings.folder_name

    @cached_property
    def world_settings(self) -> WorldSettings:
        """The configured world."""
        return WorldSettings.from_mapping(self.settings.world)

    def get(self, name: str) -> Recipe:
        """The recipe called `name`."""
        if name not in self.paths:
            raise unknown_name("recipe", name, self.paths, ", ".join([*self.settings.paths.recipes, "data_recipes"]))
        if name not in self._loaded:
            self._loaded[name] = load_recipe(self.paths[name])
        return self._loaded[name]

    def folder(self, name: str) -> Path | RemotePath:
        """Where the recipe's shards lie: where data.locations says, else below paths.data."""
        recipe = self.get(name)
        if name in self.settings.data.locations:
            return location(self.settings.data.locations[name])
        return recipe.path(location(self.settings.paths.data), world=self.world)

    def data_root(self) -> Path:
        """The folder for shards that are made here; raises ModalignError where paths.data is no folder on a disk."""
        root = location(self.settings.paths.data)
        if isinstance(root, RemotePath):
            raise ModalignError(
                f"shards are made on a disk, and paths.data is {root}: set it to a folder; single recipes are read "
                f"from elsewhere by data.locations"
            )
        return root

    def is_generated(self, name: str) -> bool:
        """Whether its shards are made from the world's settings alone."""
        return "{world}" in self.get(name).folder

    def media(self, name: str) -> tuple[str, ...]:
        """The modalities of a recipe's samples."""
        return tuple(self.get(name).media)

    def alignment_recipes(self, modality: str) -> tuple[str, ...]:
        """The caption recipes of a modality: the data group's, else what its own YAML names."""
        return self.settings.data.align.get(modality, self.settings.modalities[modality].recipes)

    def carrying(self, modality: str) -> list[str]:
        """Names of the recipes that carry a modality and may be trained on."""
        found = [name for name in self.paths if modality in self.media(name)]
        return [name for name in found if self.get(name).benchmark is None or "train" in self.get(name).splits]

    def num_samples(self, name: str, split: str) -> int:
        """Samples of a split: of the world's settings, of the shards' manifest, else as the recipe declares.

        Of a training split those that data.train_samples leaves.
        """
        limit = self.train_limit(name) if split == "train" else None
        there = self._num_there(name, split)
        return there if limit is None else min(there, limit)

    def is_there(self, name: str, split: str) -> bool:
        """Whether a split's shards are there, or can be made at once."""
        return self.is_generated(name) or (self.folder(name) / split / MANIFEST_NAME).is_file()

    def check_split(self, split: str, names: Iterable[str]) -> None:
        """Raise ModalignError for a split that none of the named recipes declares or has shards of."""
        names = list(dict.fromkeys(names))
        known = {one for name in names for one in self._splits(name)}
        if known and split not in known:
            raise unknown_name("split", split, known, f"recipe{'s' * (len(names) > 1)} {', '.join(names)}")

    def _splits(self, name: str) -> set[str]:
        folder = self.folder(name)
        made = folder.glob(f"*/{MANIFEST_NAME}") if isinstance(folder, Path) else ()
        return {*self.get(name).splits, *(path.parent.name for path in made)}

    def train_limit(self, name: str) -> int | None:
        """How many training samples of a recipe are used, None for all of them."""
        return self.settings.data.train_samples.get(name)

    def _num_there(self, name: str, split: str) -> int:
        if self.is_generated(name):
            return self.world_settings.count(name, split)
        folder = self.folder(name) / split
        if (folder / MANIFEST_NAME).is_file():
            return read_manifest(folder).samples
        return self.get(name).splits.get(split) or 0

    def meaning(self, name: str) -> dict[str, Any]:
        """What identifies a recipe's data: the world's settings, else the digest of its shards' manifests."""
        recipe = self.get(name)
        declared = recipe.meaning()
        if (limit := self.train_limit(name)) is not None:
            declared = declared | {"train_samples": limit}
        if self.is_generated(name):
            return {"recipe": declared, "world": self.world}
        return {"recipe": declared, "digest": recipe_digest(recipe, self.folder(name), ("train",))}
