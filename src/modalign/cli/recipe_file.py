"""Recipes that verbs write: which member is which medium, and the YAML itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from modalign.config.recipes import RecipeBook
from modalign.data.extensions import MEDIA_EXTENSIONS
from modalign.data.recipes import load_recipe
from modalign.errors import ModalignError
from modalign.runs.files import make_folder, write_atomic

DEFAULT_FOLDER = Path("data_recipes")
NAME = re.compile(r"[a-z0-9][a-z0-9_]*")


def recipe_file(name: str, folder: Path | None, book: RecipeBook) -> Path:
    """Where the new recipe `name` will lie; an error where the name is unfit or taken."""
    if not NAME.fullmatch(name):
        raise ModalignError(f"'{name}' cannot name a recipe: use small letters, digits and '_'")
    if name in book.paths:
        raise ModalignError(f"there is a recipe '{name}' already ({book.paths[name]}): choose another name")
    own = book.settings.paths.recipes
    return (folder or (Path(own[0]) if own else DEFAULT_FOLDER)) / f"{name}.yaml"


def parse_media(words: Sequence[str], found: Iterable[str]) -> dict[str, str]:
    """`MODALITY=EXT` words as a recipe's media; every extension must be among those found."""
    media = {}
    known = set(found)
    for word in words:
        modality, equals, extension = word.partition("=")
        if not equals or not modality:
            raise ModalignError(f"--media {word}: write MODALITY=EXT, such as image=jpg")
        if missing := [part for part in extension.split("+") if part not in known]:
            raise ModalignError(f"--media {word}: no sample has .{missing[0]}; found: {_listed(known)}")
        media[modality] = extension
    return media


def guess_media(found: Iterable[str], book: RecipeBook) -> dict[str, str]:
    """The media that the extensions mean in the recipes there are; an error where that is not plain."""
    media: dict[str, str] = {}
    for extension in sorted(found):
        last = extension.rsplit(".", 1)[-1]
        if last not in MEDIA_EXTENSIONS:
            continue
        modalities = _meaning(last, book)
        if len(modalities) != 1:
            candidates = ", ".join(modalities) or "any of the modalities"
            raise ModalignError(
                f".{extension} may be {candidates}: say which, as --media {(modalities or ['image'])[0]}={extension}"
            )
        if modalities[0] in media:
            raise ModalignError(
                f".{media[modalities[0]]} and .{extension} both look like {modalities[0]}: say which is meant, "
                f"as --media {modalities[0]}={extension}"
            )
        media[modalities[0]] = extension
    return media


def _meaning(extension: str, book: RecipeBook) -> list[str]:
    """The modalities that recipes store under this extension, else under one of the same kind."""
    exact, alike = set(), set()
    for name in book.paths:
        for modality, known in book.get(name).media.items():
            stored = known.rsplit(".", 1)[-1]
            if stored == extension:
                exact.add(modality)
            if MEDIA_EXTENSIONS.get(stored) == MEDIA_EXTENSIONS[extension]:
                alike.add(modality)
    return sorted(exact or alike)


def write_recipe(
    file: Path,
    *,
    media: Mapping[str, str],
    splits: Mapping[str, int | None],
    source: str,
    licence: str = "unknown",
    found: Iterable[str] = ("json",),
    title: str | None = None,
    make: Mapping[str, Any] | None = None,
) -> None:
    """Write a recipe's YAML and read it again as a check; `found` are the extensions that its samples have."""
    if (text := next((ext for ext in sorted(found) if ext.rsplit(".", 1)[-1] == "json"), None)) is None:
        raise ModalignError(
            f"no member with words: a recipe needs a .json in every sample ({{'caption': …}}); found: {_listed(found)}"
        )
    content = {
        "name": file.stem,
        "title": title or f"{file.stem}: written by modalign, not described yet",
        "source": source,
        "licence": licence,
        "task": "caption",
        "media": dict(media),
        "text": text,
        "splits": dict(splits),
        "folder": file.stem,
        "make": None if make is None else dict(make),
    }
    written = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)
    make_folder(file.parent)
    write_atomic(file, written.encode())
    try:
        load_recipe(file)
    except ModalignError:
        file.unlink()
        raise


def _listed(extensions: Iterable[str]) -> str:
    return ", ".join(f".{extension}" for extension in sorted(extensions)) or "none"
