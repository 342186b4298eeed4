"""The metrics of a run as a long table (step, name, value) that a resumed run cuts back and goes on with."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, TextIO

from modalign.errors import ModalignError
from modalign.runs.files import telling_errors, write_atomic

HEADER = ("step", "name", "value")
LONGEST_ROW_BYTES = 1 << 16


class Metric(NamedTuple):
    """One measured value at an optimizer step, named as in `train/loss/audio`."""

    step: int
    name: str
    value: float


class MetricLog:
    """metrics.csv: rows reach the system at once, so that a killed run tears at most its last one."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._file: TextIO | None = None

    def append(self, step: int, values: Mapping[str, float]) -> None:
        """Add one row a value, all at `step`."""
        with telling_errors(self.path):
            file = self._file or self._open()
            csv.writer(file, lineterminator="\n").writerows((step, name, float(v)) for name, v in values.items())
            file.flush()

    def sync(self) -> None:
        """Wait until all rows are on disk; called before a checkpoint so that no row before it can be lost."""
        if self._file is not None:
            with telling_errors(self.path):
                os.fsync(self._file.fileno())

    def cut_after(self, step: int) -> int:
        """Drop the rows beyond `step` and a torn last one; returns how many rows were beyond it."""
        self.close()
        rows = self.read()
        kept = [row for row in rows if row.step <= step]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([HEADER, *kept])
        if self.path.exists():
            write_atomic(self.path, text.getvalue().encode())
        return len(rows) - len(kept)

    def read(self) -> list[Metric]:
        """All whole rows in the order they were written; none where there is no file yet."""
        if not self.path.exists():
            return []
        text = self.path.read_text(encoding="utf-8", errors="replace")
        lines = text[: text.rfind("\n") + 1].splitlines()
        rows: list[Metric] = []
        for number, row in enumerate(csv.reader(lines[1:]), start=2):
            try:
                step, name, value = row
                rows.append(Metric(int(step), name, float(value)))
            except ValueError as error:
                raise ModalignError(
                    f"{self.path} line {number} is damaged ({','.join(row)!r}): not step,name,value; delete that line"
                ) from error
        return rows

    def close(self) -> None:
        """Close the file; a later `append` opens it again."""
        if self._file is not None:
            file, self._file = self._file, None
            with telling_errors(self.path):
                file.close()

    def _open(self) -> TextIO:
        new = not _drop_torn_row(self.path)
        self._file = open(self.path, "a", newline="", encoding="utf-8")  # noqa: SIM115 - stays open for the whole run
        if new:
            csv.writer(self._file, lineterminator="\n").writerow(HEADER)
        return self._file


def _drop_torn_row(path: Path) -> int:
    """Cut what a killed writer left behind the last line break; returns the bytes that stay, 0 without a file."""
    size = path.stat().st_size if path.exists() else 0
    if size == 0:
        return 0
    with open(path, "rb+") as file:
        start = file.seek(max(0, size - LONGEST_ROW_BYTES))
        whole = start + file.read(LONGEST_ROW_BYTES).rfind(b"\n") + 1
        if whole < size:
            file.truncate(whole)
    return whole
