"""What annotation files hold as rows: nested JSON, plain pickles, MATLAB's variables, files found by a pattern."""

from __future__ import annotations

import csv
import io
import pickle
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from modalign.data.disk import disk_error
from modalign.data.sources.tables import Row, need_package
from modalign.errors import ModalignError, unknown_name

_DELIMITERS = {".csv": ",", ".tsv": "\t", ".txt": "\t"}
_LONGEST_CELL = 1 << 28  # pictures lie in cells as base64


class _Text(csv.excel):
    """Lines as they stand: quotation marks are part of the words."""

    quoting = csv.QUOTE_NONE


class _PlainUnpickler(pickle.Unpickler):
    """Numbers, texts, lists and mappings only: a pickle that names any class or function is refused, not run."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise ValueError(f"the pickle names {module}.{name}, and only plain lists and mappings are read")

    def persistent_load(self, pid: Any) -> NoReturn:
        raise ValueError("the pickle refers to other objects, and only plain lists and mappings are read")


def read_plain_pickle(data: bytes) -> Any:
    """What a pickle of plain lists and mappings holds (RefCOCO is published so); raises ValueError for any other."""
    try:
        return _PlainUnpickler(io.BytesIO(data), encoding="utf-8").load()
    except ValueError:
        raise
    except Exception as error:  # a damaged pickle may raise almost anything
        raise ValueError(f"a damaged pickle ({type(error).__name__})") from error


def place_in(content: Any, place: str, where: str) -> Any:
    """What lies at a dotted place; raises ModalignError that names the nearest."""
    for name in place.split(".") if place else ():
        if not isinstance(content, Mapping) or name not in content:
            known = list(content) if isinstance(content, Mapping) else []
            raise unknown_name("place", place, [str(k) for k in known[:20]], where)
        content = content[name]
    return content


def entries(content: Any, key: str | None, where: str) -> Iterator[Row]:
    """The rows of a list or, with its names in the column `key`, of a mapping; what is no mapping itself is `value`."""
    if isinstance(content, Mapping):
        content = [
            {**(value if _is_row(value) else {"value": value}), **({key: name} if key else {})}
            for name, value in content.items()
            if _is_row(value) or key
        ]
    if not isinstance(content, list):
        raise ModalignError(f"{where}: a list of rows is expected, not {type(content).__name__}: set its place (at)")
    for entry in content:
        if not _is_row(entry):
            raise ModalignError(f"{where}: a row is a mapping, not {type(entry).__name__}")
        yield entry


def _is_row(entry: Any) -> bool:
    return isinstance(entry, Mapping)


def is_delimited(path: Path | str) -> bool:
    """Whether a file is a table with a delimiter, by its name."""
    return Path(path).suffix.lower() in _DELIMITERS


def delimited(path: Path, columns: Sequence[str] | None, delimiter: str | None) -> Iterator[Row]:
    """The rows of CSV, TSV or text; `columns` names those of a file without a header."""
    csv.field_size_limit(_LONGEST_CELL)
    delimiter = delimiter or _DELIMITERS[path.suffix.lower()]
    dialect = _Text if path.suffix.lower() == ".txt" else csv.excel
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from csv.DictReader(file, fieldnames=columns, dialect=dialect, delimiter=delimiter)
    except OSError as error:
        raise disk_error(error, path, "read") from error
    except (ValueError, csv.Error) as error:
        raise ModalignError(f"{path} is not a readable table: {error}") from error


def found_rows(root: Path, pattern: str, columns: Sequence[str] | None, delimiter: str | None) -> Iterator[Row]:
    """The rows of every file that fits the pattern, in the order of names, each with its `path` below the root."""
    paths = sorted(root.glob(pattern))
    if not paths:
        raise ModalignError(f"{root} holds no file {pattern}: is it the folder that the recipe describes?")
    for path in paths:
        own = {"path": path.relative_to(root).as_posix()}
        for row in delimited(path, columns, delimiter) if is_delimited(path) else ({},):
            yield {**row, **own}


def matlab_values(path: Path, name: str) -> list[Row]:
    """The numbers or texts of a variable of a MATLAB file (up to version 7.2), each as a row's `value`."""
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise need_package("scikit-learn", "a MATLAB file") from error
    try:
        content = loadmat(path, simplify_cells=True)
    except OSError as error:
        raise disk_error(error, path, "read") from error
    except (ValueError, RuntimeError, TypeError) as error:
        raise ModalignError(f"{path} is no MATLAB file that can be read: {error}") from error
    values = place_in({key: value for key, value in content.items() if not key.startswith("__")}, name, str(path))
    return [{"value": value.item() if hasattr(value, "item") else value} for value in list(values)]
