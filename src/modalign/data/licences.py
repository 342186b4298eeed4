"""Licences that have to be accepted, by name, before data are made or trained on; remembered beside the shards."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from modalign.data.disk import write_atomic
from modalign.data.recipes import Recipe
from modalign.data.remote import RemotePath
from modalign.errors import ModalignError

ACCEPTED_NAME = "licence.json"


def require_accepted(recipe: Recipe, folder: Path | RemotePath, accepted: Collection[str]) -> None:
    """Raise ModalignError where a recipe's licence has to be accepted and is not: it says which, where, and how."""
    if not recipe.accept_licence or recipe.name in accepted or (folder / ACCEPTED_NAME).is_file():
        return
    raise ModalignError(
        f"recipe {recipe.name}: its data are under {recipe.licence} ({recipe.licence_url or recipe.source}), which you "
        f"must accept: read it, then add data.accept_licences=[{recipe.name}]"
    )


def remember_accepted(recipe: Recipe, folder: Path) -> None:
    """Note beside the shards that the licence was accepted, so that those who read them need not say so again."""
    if recipe.accept_licence:
        told = {"recipe": recipe.name, "licence": recipe.licence, "url": recipe.licence_url or recipe.source}
        write_atomic(folder / ACCEPTED_NAME, json.dumps(told, indent=1).encode())
