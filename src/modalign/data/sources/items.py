"""What a maker of shards yields: samples, and what it had to leave out."""

from __future__ import annotations

import re
from dataclasses import dataclass

Item = tuple[str, str, dict[str, bytes]]
"""A sample: split, key, and its members by extension."""

_UNFIT = re.compile(r"[^A-Za-z0-9_\-]+")


@dataclass(frozen=True, slots=True)
class Dropped:
    """A sample that was left out: its key in the raw data, and why (worded alike for alike cases, to be counted)."""

    key: str
    reason: str


def clean_key(number: int, name: str) -> str:
    """A sample key that sorts by row number and recalls the name; fit for a tar member."""
    stem = _UNFIT.sub("-", name).strip("-")[:60]
    return f"{number:08d}-{stem}" if stem else f"{number:08d}"
