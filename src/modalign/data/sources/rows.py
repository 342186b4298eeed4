"""Rows of published annotations: CSV, JSON and the like, with lists opened up, tables joined and splits picked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from modalign.data.disk import disk_error
from modalign.data.sources.items import Dropped
from modalign.data.sources.patterns import fill, names_in
from modalign.data.sources.row_files import (
    delimited,
    entries,
    found_rows,
    is_delimited,
    matlab_values,
    place_in,
    read_plain_pickle,
)
from modalign.data.sources.tables import Row, read_table
from modalign.errors import ModalignError, unknown_name

_TABLES = (".jsonl", ".parquet")


@dataclass(frozen=True)
class Join:
    """Another table whose row of the same value joins a row: its columns are added, those of equal name kept.

    `by` is the column here (or a template, "vid{video_id}"), `to` there (default: the same name); with `many`, all its
    rows of that value go as a list into the column of that name; `prefix` goes before the names of the added columns.
    `key`, `columns` and `delimiter` are those of `Rows`.
    """

    file: str
    by: str
    to: str | None = None
    at: str = ""
    many: str | None = None
    prefix: str = ""
    key: str | None = None
    columns: Sequence[str] | None = None
    delimiter: str | None = None


@dataclass(frozen=True)
class Rows:
    """Where a split's rows are: `file` below the raw folder, and what to do before each is a row.

    A `file` with a star stands for all that fit, whose place goes into the column `path`; such of no known type are a
    row each.

    `at` is the dotted place of the list inside a JSON file ("" is the whole of it; a mapping gives its values, with the
    keys in the column `key` and what is no mapping in `value`; of a MATLAB file a variable); `columns` names those of a
    CSV file without a header, `delimiter` what parts them; `explode` are dotted places of lists inside a row whose
    entries each become a row of their own, numbered from 0 in the column `number`; `where` keeps the rows whose columns
    have these values; `ids` keeps (or, with `drop_ids`, leaves out) rows named in a text file by the column `id`; `add`
    are constants.
    """

    file: str
    at: str = ""
    key: str | None = None
    columns: Sequence[str] | None = None
    explode: Sequence[str] = ()
    join: Sequence[Join] = ()
    where: Mapping[str, Any] = field(default_factory=dict)
    ids: str | None = None
    drop_ids: bool = False
    id: str = "id"
    delimiter: str | None = None
    number: str | None = None
    add: Mapping[str, Any] = field(default_factory=dict)


def make_rows(declared: Any, where: str) -> list[Rows]:
    """One or several `Rows` from a recipe's mapping or list; raises ModalignError that names the wrong key."""
    made = []
    for entry in declared if isinstance(declared, list | tuple) else [declared]:
        entry = {"file": entry} if isinstance(entry, str) else dict(entry)
        joins = [_checked(Join, dict(join), f"{where}.join") for join in entry.pop("join", ())]
        made.append(_checked(Rows, {**entry, "join": joins}, where))
    return made


def _checked(kind: Any, settings: Mapping[str, Any], where: str) -> Any:
    known = [own.name for own in fields(kind)]
    for name in settings:
        if name not in known:
            raise unknown_name("setting", name, known, where)
    try:
        return kind(**settings)
    except TypeError as error:
        raise ModalignError(f"{where}: {str(error).partition('__init__() ')[2]}") from error


class RowReader:
    """Reads the rows that several `Rows` name below one folder; a JSON file that two splits share is parsed once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._parsed: dict[str, Any] = {}

    def read(self, rows: Rows) -> Iterator[Row | Dropped]:
        """The rows in the file's order; raises ModalignError where a file is missing or not what it should be."""
        tables = [(join, self._by_value(join)) for join in rows.join]
        listed = self._listed(rows)
        for row in self._rows(rows):
            for opened in _exploded(row, rows.explode, rows.number):
                joined = _joined({**opened, **rows.add}, tables)
                if isinstance(joined, Dropped) or (
                    _wanted(joined, rows.where)
                    and (listed is None or (str(joined.get(rows.id)) in listed) != rows.drop_ids)
                ):
                    yield joined

    def _listed(self, rows: Rows) -> set[str] | None:
        """Names in a text file, one a line; what follows an underscore or a dot is not part of them."""
        if rows.ids is None:
            return None
        lines = self._text(rows.ids).split()
        return {line.partition("_")[0].partition(".")[0] for line in lines}

    def _rows(self, rows: Rows | Join) -> Iterator[Row]:
        path = self.folder / rows.file
        suffix = path.suffix.lower()
        if "*" in rows.file:
            yield from found_rows(self.folder, rows.file, rows.columns, rows.delimiter)
        elif is_delimited(path):
            yield from delimited(path, rows.columns, rows.delimiter)
        elif suffix in _TABLES:
            yield from read_table(path)
        elif suffix == ".mat":
            yield from matlab_values(path, rows.at)
        elif suffix in (".json", ".p", ".pkl"):
            yield from entries(place_in(self._parse(rows.file), rows.at, str(path)), rows.key, str(path))
        else:
            known = [".csv", ".tsv", ".txt", ".mat", *_TABLES, ".json", ".p"]
            raise unknown_name("type of annotation file", suffix or path.name, known, str(path))

    def _parse(self, file: str) -> Any:
        if file not in self._parsed:
            path = self.folder / file
            while len(self._parsed) > 1:  # annotations are large: the last two files are kept
                del self._parsed[next(iter(self._parsed))]
            try:
                data = path.read_bytes()
                self._parsed[file] = json.loads(data) if path.suffix == ".json" else read_plain_pickle(data)
            except OSError as error:
                raise disk_error(error, path, "read") from error
            except ValueError as error:
                raise ModalignError(f"{path} is not what its name says: {error}") from error
        return self._parsed[file]

    def _text(self, file: str) -> str:
        try:
            return (self.folder / file).read_text(encoding="utf-8")
        except OSError as error:
            raise disk_error(error, self.folder / file, "read") from error

    def _by_value(self, join: Join) -> dict[str, list[Row]]:
        table: dict[str, list[Row]] = {}
        for row in self._rows(join):
            table.setdefault(str(row.get(join.to or join.by)), []).append(row)
        return table


def _exploded(row: Row, places: Sequence[str], number: str | None) -> Iterator[Row]:
    """The row itself, or one for each entry of its lists; a list that is not there has no entries."""
    if not places:
        yield row
        return
    outer = {name: value for name, value in row.items() if not isinstance(value, list | dict)}
    for place in places:
        *path, last = place.split(".")
        content: Any = row
        for name in (*path, last):
            content = content.get(name, ()) if isinstance(content, Mapping) else ()
        for count, entry in enumerate(content):
            numbered = {number: count} if number else {}
            yield {**outer, **numbered, **(entry if isinstance(entry, Mapping) else {last: entry})}


def _joined(row: Row, tables: Sequence[tuple[Join, Mapping[str, list[Row]]]]) -> Row | Dropped:
    for join, table in tables:
        try:
            by = fill(join.by, row) if names_in(join.by) else str(row.get(join.by))
        except ValueError as error:
            return Dropped("", str(error))
        found = table.get(by, [])
        if not found:
            return Dropped(by, f"no row in {join.file} for its {join.by}")
        if join.many is not None:
            row = {**row, join.many: found}
        else:
            row = {**{join.prefix + name: value for name, value in found[0].items()}, **row}
    return row


def _wanted(row: Row, where: Mapping[str, Any]) -> bool:
    for column, value in where.items():
        if column not in row:
            raise unknown_name("column", column, [str(name) for name in row], "where")
        values = value if isinstance(value, list | tuple) else (value,)
        if str(row[column]) not in {str(one) for one in values}:
            return False
    return True
