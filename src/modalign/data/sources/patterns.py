"""Patterns over a row's columns, such as "train2014/COCO_{image_id:012d}.jpg": what finds files and joins tables."""

from __future__ import annotations

import re
import string
from pathlib import PurePosixPath
from typing import Any

from modalign.data.sources.tables import Row, cell
from modalign.errors import ModalignError

_PATHS = {
    "stem": lambda path: path.stem,
    "name": lambda path: path.name,
    "parent": lambda path: path.parent.as_posix(),
    "top": lambda path: path.parts[0],
}


class PatternFormatter(string.Formatter):
    """Format specs beside Python's own, and numbers written as text.

    `stem`, `name`, `parent` and `top` (the first folder) of a path; `number`, the last whole number in a text; `last6`,
    its last so many characters, filled with zeros.
    """

    def format_field(self, value: Any, format_spec: str) -> str:
        """One value by its spec."""
        if format_spec in _PATHS:
            return str(_PATHS[format_spec](PurePosixPath(str(value))))
        if format_spec == "number":
            numbers = re.findall(r"\d+", str(value))
            return str(int(numbers[-1])) if numbers else ""
        if format_spec.startswith("last"):
            size = int(format_spec.removeprefix("last"))
            return str(value).zfill(size)[-size:]
        if format_spec.endswith("d") and isinstance(value, str) and value.lstrip("-").isdigit():
            value = int(value)
        return str(super().format_field(value, format_spec))


def names_in(pattern: str) -> list[str]:
    """The columns that a pattern names."""
    return [name for _, name, _, _ in string.Formatter().parse(pattern) if name]


def fill(pattern: str, row: Row) -> str:
    """The pattern with a row's values; raises ValueError where one is missing or empty."""
    values = {name: cell(row, name) for name in names_in(pattern)}
    if any(value is None or value == "" for value in values.values()):
        raise ValueError("no file named in the row")
    try:
        return PatternFormatter().format(pattern, **values)
    except ValueError as error:
        raise ModalignError(f"make.media: the pattern '{pattern}' does not fit {values}: {error}") from error


def fill_text(template: str, row: Row) -> str:
    """A text with a row's values, which may be empty; raises ValueError where one is missing."""
    return PatternFormatter().format(template, **{name: cell(row, name) for name in names_in(template)})
