"""Read a table of captions or labels: CSV, TSV, JSON, JSON lines or Parquet, row by row as mappings."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from modalign.data.disk import disk_error
from modalign.errors import ModalignError, unknown_name

Row = dict[str, Any]
SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet", ".json")


def read_table(path: Path | str) -> list[Row]:
    """All rows of a table, whose first line names the columns; raises ModalignError where it is none."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise unknown_name("type of table", suffix or path.name, SUFFIXES, str(path))
    try:
        rows = list(_parquet(path) if suffix == ".parquet" else _lines(path, suffix))
    except OSError as error:
        raise disk_error(error, path, "read") from error
    except (ValueError, csv.Error) as error:
        raise ModalignError(f"{path} is not a readable table: {error}") from error
    if not rows:
        raise ModalignError(f"{path} has no rows below its header")
    return rows


def column(row: Row, name: str, where: str) -> Any:
    """A row's value in a column; raises ModalignError that names the nearest column."""
    if name not in row:
        raise unknown_name("column", name, [str(known) for known in row], where)
    return row[name]


def cell(row: Mapping[str, Any], name: str) -> Any:
    """A row's value in a column that not every row has (JSON); raises ValueError with a reason that can be counted."""
    if name not in row:
        raise ValueError(f"no '{name}' in the row")
    return row[name]


def need_package(name: str, purpose: str) -> ModalignError:
    """The error for an optional package that is not installed."""
    return ModalignError(f"{purpose} needs the package {name}: pip install 'modalign[data]'")


def _lines(path: Path, suffix: str) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        if suffix == ".json":
            listed = json.load(file)
            if not isinstance(listed, list) or not all(isinstance(row, dict) for row in listed):
                raise ValueError("a JSON table is a list of mappings")
            yield from listed
        elif suffix == ".jsonl":
            for number, line in enumerate(file, start=1):
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise ValueError(f"line {number} is not a mapping: write one object a line, not a list of them")
                    yield row
        else:
            yield from csv.DictReader(file, delimiter="," if suffix == ".csv" else "\t")


def _parquet(path: Path) -> Iterator[Row]:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise need_package("pyarrow", "Parquet") from error
    for batch in parquet.ParquetFile(path).iter_batches(batch_size=1024):
        yield from batch.to_pylist()
