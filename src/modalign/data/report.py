"""What the making of a recipe's shards wrote and dropped, and why: told at the end, and kept beside each manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modalign.data.disk import write_atomic

REPORT_NAME = "report.json"
_EXAMPLES = 20

Progress = Callable[[int, int], None]
"""Told again and again how many samples were written and how many dropped so far."""


@dataclass(slots=True)
class Repeats:
    """Samples of the very bytes of an earlier one: how many, the first one's key, how many lie in another split."""

    count: int = 0
    first: str = ""
    across: int = 0
    _seen: dict[bytes, str] = field(default_factory=dict, repr=False)

    def add(self, split: str, key: str, members: Mapping[str, bytes]) -> None:
        """Note a sample that is written; 8 bytes of it are kept."""
        digest = hashlib.blake2b(digest_size=8)
        for extension in sorted(members):
            digest.update(f"{extension} {len(members[extension])} ".encode())
            digest.update(members[extension])
        content = digest.digest()
        if content not in self._seen:
            self._seen[content] = split
            return
        self.count += 1
        self.first = self.first or key
        self.across += self._seen[content] != split


@dataclass(slots=True)
class MakeReport:
    """What was made: samples written by split, samples dropped by reason, and the first of those (key, reason).

    `drops` has the dropped ones by split and reason, `kept` the splits that were there before, `repeats` what was
    written more than once.
    """

    folder: Path
    written: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    examples: list[tuple[str, str]] = field(default_factory=list)
    drops: dict[str, dict[str, int]] = field(default_factory=dict)
    shown: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)
    repeats: Repeats = field(default_factory=Repeats)

    @property
    def total_written(self) -> int:
        """Samples written, all splits together."""
        return sum(self.written.values())

    @property
    def total_dropped(self) -> int:
        """Samples dropped, all reasons together."""
        return sum(self.dropped.values())

    def drop(self, split: str, key: str, reason: str) -> None:
        """Count one dropped sample."""
        self.add(split, 0, {reason: 1}, [(key, reason)])

    def add(
        self, split: str, written: int, dropped: Mapping[str, int], examples: Iterable[tuple[str, str]] = ()
    ) -> None:
        """Count samples of a split."""
        if written:
            self.written[split] = self.written.get(split, 0) + written
        own = self.drops.setdefault(split, {})
        for reason, count in dropped.items():
            self.dropped[reason] = self.dropped.get(reason, 0) + count
            own[reason] = own.get(reason, 0) + count
        shown = self.shown.setdefault(split, [])
        for example in examples:
            for listed in (self.examples, shown):
                if len(listed) < _EXAMPLES:
                    listed.append(example)

    def of(self, split: str) -> dict[str, Any]:
        """One split's part, as it is kept beside its manifest."""
        return {
            "written": self.written.get(split, 0),
            "dropped": dict(sorted(self.drops.get(split, {}).items(), key=lambda entry: -entry[1])),
            "examples": [list(example) for example in self.shown.get(split, [])],
        }

    def told(self) -> str:
        """Why there is nothing, in a few words."""
        if not self.dropped:
            return "the raw data are empty"
        reason, count = max(self.dropped.items(), key=lambda entry: entry[1])
        return f"{self.total_dropped} were dropped, {count} because of: {reason}"


def write_report(folder: Path, part: Mapping[str, Any]) -> None:
    """Keep a split's part of the report in its folder."""
    write_atomic(folder / REPORT_NAME, json.dumps(part, indent=1, ensure_ascii=False).encode())
