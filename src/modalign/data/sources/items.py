"""What a maker of shards yields: samples, what it had to leave out, and pieces of work that become a shard each."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

Item = tuple[str, str, dict[str, bytes]]
"""A sample: split, key, and its members by extension."""

Members = dict[str, bytes]

_UNFIT = re.compile(r"[^A-Za-z0-9_\-]+")


@dataclass(frozen=True, slots=True)
class Dropped:
    """A sample that was left out: its key in the raw data, and why (worded alike for alike cases, to be counted)."""

    key: str
    reason: str
    split: str = ""


@dataclass(frozen=True, slots=True)
class Unit:
    """What one shard is made of: `payload` is plain data that tells it apart from any other unit.

    `tar` is a file that somebody else wrote and that is indexed where it lies, not copied.
    """

    split: str
    payload: Any
    tar: Path | None = None


@runtime_checkable
class UnitSource(Protocol):
    """A source whose work comes in pieces, for several processes; it is pickled for each of them."""

    def splits(self) -> list[str]:
        """The splits that it can make."""

    def units(self, samples_per_shard: int, splits: Collection[str]) -> Iterator[Unit | Dropped]:
        """The pieces of these splits in order, the same each time, with what is left out before any file is read."""

    def convert(self, unit: Unit) -> Iterator[tuple[str, Members] | Dropped]:
        """The samples of a piece, as (key, members), with what is left out in between."""


def clean_key(number: int, name: str) -> str:
    """A sample key that sorts by row number and recalls the name; fit for a tar member."""
    stem = _UNFIT.sub("-", name).strip("-")[:60]
    return f"{number:08d}-{stem}" if stem else f"{number:08d}"
