"""A recipe says what one dataset is: its licence, its media, where its words lie, how a raw copy becomes shards."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, overload

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from modalign.data.benchmark import Benchmark
from modalign.data.disk import read_bytes
from modalign.data.extensions import check_media_extension, check_text_extension
from modalign.data.manifest import read_manifest
from modalign.data.remote import RemotePath, location
from modalign.errors import ModalignError
from modalign.targets import check_trusted


class Recipe(BaseModel):
    """One dataset; see the fields. What share of a mixture it gets is never said here."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_]*$")
    title: str
    source: str
    licence: str
    task: Literal["caption", "conversation", "text"]
    media: dict[str, str] = {}
    """Modality to the extension of its member ("jpg"; "jpg+png" for several taken together), in prompt order."""
    text: str = "json"
    variant_key: str | None = None
    splits: dict[str, int | None] = {}
    """Split to its number of samples, where that is known."""
    urls: dict[str, str | list[str]] = {}
    """Split to the addresses of tars that are streamed, braces allowed; such a split needs its number of samples."""
    folder: str
    make: dict[str, Any] | None = None
    licence_url: str | None = None
    accept_licence: bool = False
    """Whether the licence has to be accepted, by name, before anything is made of the data or trained on them."""
    size: str | None = None
    """How much there is of the raw copy, in a few words."""
    prompts: tuple[str, ...] = ()
    """What asks for this dataset's captions in a chat, in place of the modality's own prompts."""
    overlaps: dict[str, str] = {}
    """`<recipe>/<split>` to what of it is known to be in this recipe's training split."""
    benchmark: Benchmark | None = None
    """How a split of it is measured, with the score that was published."""

    @field_validator("media")
    @classmethod
    def _media_are_decodable(cls, media: dict[str, str]) -> dict[str, str]:
        for modality, extension in media.items():
            check_media_extension(extension, f"media.{modality}")
        return media

    @field_validator("text")
    @classmethod
    def _text_is_readable(cls, text: str) -> str:
        return check_text_extension(text, "text")

    @field_validator("make")
    @classmethod
    def _maker_is_trusted(cls, make: dict[str, Any] | None) -> dict[str, Any] | None:
        if make is not None:
            check_trusted(str(make.get("_target_", "")), "make")
        return make

    @field_validator("overlaps")
    @classmethod
    def _overlaps_name_splits(cls, overlaps: dict[str, str]) -> dict[str, str]:
        for place in overlaps:
            if place.count("/") != 1:
                raise ModalignError(
                    f"overlaps: '{place}' must name a recipe and one of its splits, as coco_caption/test"
                )
        return overlaps

    def meaning(self) -> dict[str, Any]:
        """What of the recipe changes the result of training on it."""
        told = {
            "title",
            "source",
            "licence",
            "licence_url",
            "accept_licence",
            "size",
            "splits",
            "overlaps",
            "benchmark",
        }
        declared = self.model_dump(exclude=told)
        if not self.prompts:
            del declared["prompts"]
        return declared

    @overload
    def path(self, data_root: Path | str, **places: str) -> Path: ...

    @overload
    def path(self, data_root: RemotePath, **places: str) -> RemotePath: ...

    def path(self, data_root: Path | RemotePath | str, **places: str) -> Path | RemotePath:
        """The folder of the recipe's splits below `data_root`; `places` fill names in braces, such as {world}."""
        try:
            return (Path(data_root) if isinstance(data_root, str) else data_root) / self.folder.format(**places)
        except (KeyError, IndexError, ValueError) as error:
            raise ModalignError(
                f"recipe {self.name}: folder '{self.folder}' needs {error}; given: {', '.join(places) or 'none'}"
            ) from error


def load_recipe(path: Path | str) -> Recipe:
    """The recipe in a YAML file, whose name must be the file's; raises ModalignError that names the wrong key."""
    path = Path(path)
    try:
        content = yaml.safe_load(read_bytes(path))
    except yaml.YAMLError as error:
        raise ModalignError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise ModalignError(f"{path} is no recipe: it must map name, title, source, licence, task and folder")
    try:
        recipe = Recipe.model_validate(content)
    except ModalignError as error:
        raise ModalignError(f"{path}: {error}") from error
    except ValidationError as error:
        raise ModalignError(f"{path}: {_explain(error)}") from error
    if recipe.name != path.stem:
        raise ModalignError(f"{path}: the recipe is called '{recipe.name}' but the file '{path.stem}': make them agree")
    return recipe


def find_recipes(folders: Iterable[Path | str]) -> dict[str, Path]:
    """Every recipe file by name; where two folders hold the same name, the earlier folder's counts."""
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(Path(folder).glob("*.yaml")):
            found.setdefault(path.stem, path)
    return found


def recipe_digest(recipe: Recipe, folder: Path | RemotePath | str, splits: Iterable[str]) -> str:
    """SHA-256, in hex, over what the recipe means and the content of the named splits' shards below `folder`."""
    meaning = {
        "task": recipe.task,
        "media": list(recipe.media.items()),
        "text": recipe.text,
        "variant_key": recipe.variant_key,
        "splits": {split: _split_digest(recipe, location(folder), split) for split in sorted(splits)},
    }
    return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()


def _split_digest(recipe: Recipe, folder: Path | RemotePath, split: str) -> str:
    """What identifies a split: its shards' content, or for a streamed one only its addresses and declared size."""
    if split in recipe.urls:
        return json.dumps([recipe.urls[split], recipe.splits.get(split)])
    return read_manifest(folder / split, make_hint(recipe)).digest


def make_hint(recipe: Recipe) -> str:
    """What to do where a recipe's data are missing."""
    if recipe.make is None:
        return f"recipe {recipe.name} comes from {recipe.source}: put its shards there and run `modalign index`"
    return f"run `modalign shards {recipe.name}`"


def _explain(error: ValidationError) -> str:
    """One of pydantic's complaints in one line, with the nearest valid key for an unknown one."""
    # A misspelt key is both unknown and missing: the unknown one is told, which names the other.
    first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = sorted(Recipe.model_fields)
        nearest = difflib.get_close_matches(where, known, n=1, cutoff=0.5)
        suggestion = f"did you mean '{nearest[0]}'? " if nearest else ""
        return f"unknown key '{where}': {suggestion}known: {', '.join(known)}"
    if first["type"] == "missing":
        return f"key '{where}' is missing"
    return f"key '{where}': {first['msg']}, not {first['input']!r}"
