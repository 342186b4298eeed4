"""A benchmark's answers as the file that its official scorer reads."""

from __future__ import annotations

import csv
import io
import json
import re
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modalign.data.benchmark import Predictions
from modalign.errors import ModalignError, unknown_name
from modalign.evaluation.benchmark_scores import Answered
from modalign.evaluation.choices import chosen_letter
from modalign.evaluation.vqa import vqa_normalise

_ONE_NAME = re.compile(r"\{(\w+)\}")
_SUFFIXES = {"map": "json"}


def prediction_files(predictions: Predictions, items: Sequence[Answered]) -> dict[str, bytes]:
    """File name (below the folder of a benchmark) to content; a column that no item has raises ModalignError."""
    suffix = _SUFFIXES.get(predictions.format, predictions.format)
    if predictions.by is None:
        return {f"predictions.{suffix}": _file(predictions, items)}
    groups: dict[str, list[Answered]] = {}
    for item in items:
        groups.setdefault(str(_value(predictions.by, known_of(item))), []).append(item)
    suffix = suffix if predictions.header else "txt"
    return {f"predictions/{Path(name).name}.{suffix}": _file(predictions, own) for name, own in groups.items()}


def known_of(item: Answered) -> dict[str, Any]:
    """Everything that a file of predictions may say of an item."""
    chosen = chosen_letter(item.text, item.options) if item.options else None
    return {
        "key": item.key, "question": item.question, "text": item.text, "answer": vqa_normalise(item.text),
        "reference": item.references[0], "right": item.right, "number_chosen": chosen,
        "letter": None if chosen is None else string.ascii_uppercase[chosen], **item.kept,
    }  # fmt: skip


def _file(predictions: Predictions, items: Sequence[Answered]) -> bytes:
    rows = []
    for item in items:
        known = known_of(item)
        rows.append({name: _value(template, known) for name, template in predictions.columns.items()})
    if predictions.format in ("csv", "tsv"):
        return _table(predictions, rows)
    if predictions.format == "jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    content: Any = rows if predictions.format == "json" else _mapping(rows)
    if predictions.inside:
        content = {predictions.inside: content}
    return (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode()


def _mapping(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    found = {}
    for row in rows:
        rest = {name: value for name, value in row.items() if name != "key"}
        found[str(row["key"])] = next(iter(rest.values())) if len(rest) == 1 else rest
    return found


def _table(predictions: Predictions, rows: Sequence[Mapping[str, Any]]) -> bytes:
    """A table that is told apart by tabs holds none within a cell; without a header its cells stand as they are."""
    tabs = predictions.format == "tsv"
    cells = [[" ".join(str(v).split()) if tabs else v for v in row.values()] for row in rows]
    if not predictions.header:
        return "".join("\t".join(map(str, row)) + "\n" for row in cells).encode()
    file = io.StringIO()
    table = csv.writer(file, delimiter="\t" if tabs else ",", lineterminator="\n")
    table.writerows([list(predictions.columns), *cells])
    return file.getvalue().encode()


def _value(template: str, known: Mapping[str, Any]) -> Any:
    """A name alone keeps its value's type; a template gives text."""
    names = [name for _, name, _, _ in string.Formatter().parse(template) if name] or [template]
    for name in names:
        if name not in known:
            raise unknown_name("column", name, known, "benchmark.predictions")
    if template in known:
        return known[template]
    if found := _ONE_NAME.fullmatch(template):
        return known[found[1]]
    try:
        return template.format(**known)
    except (ValueError, IndexError) as error:
        raise ModalignError(f"benchmark.predictions: '{template}' is no template: {error}") from error
