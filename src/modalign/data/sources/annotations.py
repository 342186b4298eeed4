"""Published annotations with their media in a folder: the layout of most captioning and question-answering datasets."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from modalign.data.guard import check_published_split
from modalign.data.order import derive_seed
from modalign.data.sources.items import Dropped, Members, Unit, clean_key
from modalign.data.sources.media import Medium, make_medium
from modalign.data.sources.patterns import fill_text, names_in
from modalign.data.sources.rows import RowReader, Rows, make_rows
from modalign.data.sources.tables import Row
from modalign.data.sources.words import Words, make_words
from modalign.errors import ModalignError

_ONE = 1 << 64


class AnnotationSource:
    """Rows of annotation files below `folder`, each a sample (or all of equal `group`), with media found by patterns.

    `rows` maps a split to its `Rows` (one or a list); `media` maps a member's extension to a pattern such as
    "train2014/COCO_train2014_{image_id:012d}.jpg" (a list: the first that exists); `words` say what becomes of the
    columns. `holdout` takes shares of the training rows for other splits, by a hash of `holdout_by` (default: the
    media), where nothing else is published. `check` decodes every medium. Left out, and counted: rows without words,
    without a medium that decodes, and exact repetitions.
    """

    def __init__(
        self,
        folder: str | Path,
        rows: Mapping[str, Any],
        words: Words | Mapping[str, Any],
        media: Mapping[str, Any] | None = None,
        group: str | None = None,
        holdout: Mapping[str, float] | None = None,
        holdout_by: str | None = None,
        check: bool = True,
    ) -> None:
        self.folder, self.group, self.holdout_by, self.check = Path(folder), group, holdout_by, check
        if not self.folder.is_dir():
            raise ModalignError(f"no raw copy at {self.folder}: set make.folder to the folder that holds it")
        self.rows = {split: make_rows(declared, f"make.rows.{split}") for split, declared in rows.items()}
        self.words = make_words(words)
        self.media: list[Medium] = [make_medium(extension, declared) for extension, declared in (media or {}).items()]
        self.holdout = dict(holdout or {})
        if any(share <= 0 for share in self.holdout.values()) or sum(self.holdout.values()) >= 1:
            raise ModalignError(f"make.holdout must be shares above 0 that leave some rows, not {self.holdout}")
        for split, specs in self.rows.items():
            for spec in specs:
                check_published_split(split, spec.file, spec.where, f"make.rows.{split}")

    def splits(self) -> list[str]:
        """The splits with rows of their own, then those held out."""
        return [*self.rows, *(split for split in self.holdout if split not in self.rows)]

    def units(self, samples_per_shard: int, splits: Collection[str]) -> Iterator[Unit | Dropped]:
        """Pieces of so many rows (or groups), each as (key, what to read, words)."""
        reader = RowReader(self.folder)
        for split, specs in self.rows.items():
            if split not in splits and not (self._source_of_holdout(split) and set(self.holdout) & set(splits)):
                continue
            yield from self._units_of(split, reader, specs, samples_per_shard, splits)

    def convert(self, unit: Unit) -> Iterator[tuple[str, Members] | Dropped]:
        """Read and check the media of a piece."""
        for key, plans, record in unit.payload:
            try:
                members = {
                    medium.extension: medium.read(self.folder, plan, self.check)
                    for medium, plan in zip(self.media, plans, strict=True)
                }
            except ValueError as error:
                yield Dropped(key, str(error))
                continue
            members["json"] = json.dumps(record, ensure_ascii=False).encode()
            yield key, members

    def _source_of_holdout(self, split: str) -> bool:
        return bool(self.holdout) and split == next(iter(self.rows))

    def _units_of(
        self, split: str, reader: RowReader, specs: Sequence[Rows], size: int, splits: Collection[str]
    ) -> Iterator[Unit | Dropped]:
        waiting: dict[str, list[Any]] = {}
        counts: dict[str, int] = {}
        seen: set[bytes] = set()
        for number, found in enumerate(self._samples(reader, specs)):
            if isinstance(found, Dropped):
                if split in splits:
                    yield Dropped(found.key, found.reason, split)
                continue
            name, plans, record, rows = found
            target = self._target(split, plans, rows)
            if target not in splits:
                continue
            identity = hashlib.blake2b(json.dumps([plans, record], default=str).encode(), digest_size=8).digest()
            if identity in seen:
                yield Dropped(clean_key(number, name), "a repetition", target)
                continue
            seen.add(identity)
            counts[target] = counts.get(target, -1) + 1
            waiting.setdefault(target, []).append([clean_key(counts[target], name), plans, record])
            if len(waiting[target]) == size:
                yield Unit(target, waiting.pop(target))
        for target, rest in waiting.items():
            yield Unit(target, rest)

    def _samples(
        self, reader: RowReader, specs: Sequence[Rows]
    ) -> Iterator[tuple[str, list[Any], dict[str, Any], Row] | Dropped]:
        """Name, what to read, words and first row of each sample."""
        for spec in specs:
            for rows in self._grouped(reader.read(spec)):
                if isinstance(rows, Dropped):
                    yield rows
                    continue
                name = self._group_of(rows[0]) if self.group else ""
                try:
                    plans = [medium.plan(rows[0]) for medium in self.media]
                    name = name or (Path(plans[0][0][0]).stem if plans else "")
                    record = self.words.record(rows)
                except ValueError as error:
                    yield Dropped(name, str(error))
                    continue
                yield name, plans, record, rows[0]

    def _grouped(self, rows: Iterator[Row | Dropped]) -> Iterator[list[Row] | Dropped]:
        """Rows of equal `group` together, in the order of the first of each; without a group each by itself."""
        groups: dict[str, list[Row]] = {}
        for row in rows:
            if isinstance(row, Dropped):
                yield row
            elif self.group is None:
                yield [row]
            else:
                groups.setdefault(self._group_of(row), []).append(row)
        yield from groups.values()

    def _group_of(self, row: Row) -> str:
        """What the rows of one sample have in common: a column, or a template over several."""
        assert self.group is not None
        for name in names_in(self.group) or [self.group]:
            if name not in row:
                raise ModalignError(f"make.group: no column '{name}' in a row ({', '.join(map(str, row))})")
        return fill_text(self.group, row) if names_in(self.group) else str(row[self.group])

    def _target(self, split: str, plans: Sequence[Any], row: Row) -> str:
        """The split itself, or the one that holds this sample out: all rows of one medium go the same way."""
        if not self._source_of_holdout(split):
            return split
        identity = str(row.get(self.holdout_by)) if self.holdout_by else json.dumps([plan[0] for plan in plans])
        place, end = derive_seed(0, "holdout", identity) / _ONE, 0.0
        for name, share in self.holdout.items():
            end += share
            if place < end:
                return name
        return split
