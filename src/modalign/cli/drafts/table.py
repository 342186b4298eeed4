"""A recipe for a new modality, from a folder of files and the table that captions them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modalign.cli.drafts.sample import SampleFile
from modalign.cli.recipe_file import write_recipe
from modalign.data.sources.folder import FolderSource
from modalign.data.sources.items import Dropped
from modalign.data.sources.tables import SUFFIXES, Row, read_table
from modalign.errors import ModalignError

CAPTION_COLUMNS = ("caption", "text", "description", "sentence", "label")


def find_table(place: Path) -> Path:
    """The table itself, or the only one in a folder."""
    if place.is_file():
        return place
    if not place.is_dir():
        raise ModalignError(f"--recipe {place}: no such folder or table")
    tables = sorted(path for path in place.iterdir() if path.suffix.lower() in SUFFIXES)
    if len(tables) > 1:  # JSON beside a table is often something else
        tables = [path for path in tables if path.suffix.lower() != ".json"] or tables
    if len(tables) != 1:
        named = ", ".join(path.name for path in tables) or "none"
        raise ModalignError(f"--recipe {place}: needs one caption table in it ({', '.join(SUFFIXES)}), found: {named}")
    return tables[0]


def write_table_recipe(file: Path, table: Path, sample: SampleFile, title: str, modality: str) -> str:
    """Write the recipe; returns what it holds, in words."""
    rows = read_table(table)
    column, caption = _file_column(rows, table), _caption_column(rows, table)
    make: dict[str, Any] = {
        "_target_": "modalign.data.sources.FolderSource",
        "folder": _near(table.parent),
        "table": _near(table),
        "file": column,
        "labels": {"caption": caption},
    }
    found = next(iter(FolderSource(table.parent, table, column, {"caption": caption})))
    if isinstance(found, Dropped):
        raise ModalignError(f"{table}: its first row is of no use: {found.reason}")
    _, _, members = found
    if sample.extension not in members:
        held = ", ".join(f".{extension}" for extension in members if extension != "json")
        raise ModalignError(f"{table} names {held} files, but the sample is a .{sample.extension}: give one of those")
    write_recipe(
        file, media={modality: sample.extension}, splits={"train": None, "val": None, "test": None},
        source=str(table), title=f"{title}: {len(rows)} files captioned in {table.name}", make=make,
    )  # fmt: skip
    return f"{len(rows)} rows, files in column '{column}', captions in column '{caption}'"


def _file_column(rows: Sequence[Row], table: Path) -> str:
    for name, value in rows[0].items():
        if isinstance(value, str) and value and (table.parent / value).is_file():
            return name
    raise ModalignError(f"{table}: no column of its first row names a file in {table.parent}")


def _caption_column(rows: Sequence[Row], table: Path) -> str:
    for name in CAPTION_COLUMNS:
        if name in rows[0]:
            return name
    raise ModalignError(f"{table} has no caption column ({', '.join(CAPTION_COLUMNS)}): name one of its columns so")


def _near(path: Path) -> str:
    """The path from the working directory where it lies below it, else in full."""
    here, full = Path.cwd(), path.resolve()
    return os.path.relpath(full, here) if full.is_relative_to(here) else str(full)
