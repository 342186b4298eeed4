"""A folder of files with a table that captions them: the commonest form of a laboratory's own data."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from modalign.data.extensions import MEDIA_EXTENSIONS
from modalign.data.sources.items import Dropped, Item, clean_key
from modalign.data.sources.labels import Labels, make_labels
from modalign.data.sources.tables import Row, column, read_table
from modalign.errors import ModalignError

_SAME = {"jpeg": "jpg", "tiff": "tif"}


class FolderSource:
    """Files below `folder`, named by a column of `table`, each a sample with the words that `labels` makes of its row.

    `file` is the column with the file's path inside the folder; several media in one sample are a mapping of member
    extension to column, such as {image.jpg: photo, audio.flac: sound}. Rows of one file (of several media the first)
    are shared out together, so that none is learned and asked about. Left out, and counted by reason: files that are
    missing, empty, outside the folder or of a type that is never decoded, and rows without words.
    """

    def __init__(
        self,
        folder: str | Path,
        table: str | Path,
        file: str | Mapping[str, str] = "file",
        labels: Labels | Mapping[str, Any] | None = None,
    ) -> None:
        self.folder, self.table, self.file = Path(folder), Path(table), file
        self.labels = make_labels(labels)
        if not self.folder.is_dir():
            raise ModalignError(f"no folder of files at {self.folder}: set make.folder")

    def __iter__(self) -> Iterator[Item | Dropped]:
        """Samples in the table's order, with what was left out in between."""
        rows, root = read_table(self.table), self.folder.resolve()
        first: dict[str, int] = {}
        for number, row in enumerate(rows):
            name = self._name(row)
            key = clean_key(number, Path(name).stem)
            place = first.setdefault(posixpath.normpath(name), number)
            try:
                members = self._members(row, root)
                record = self.labels.record(row, str(self.table))
            except ValueError as error:
                yield Dropped(key, str(error))
                continue
            members["json"] = json.dumps(record, ensure_ascii=False).encode()
            yield self.labels.split_of(row, place, len(rows), str(self.table)), key, members

    def _name(self, row: Row) -> str:
        """The row's file, the first of several."""
        first = self.file if isinstance(self.file, str) else next(iter(self.file.values()))
        return str(column(row, first, str(self.table)))

    def _members(self, row: Row, root: Path) -> dict[str, bytes]:
        if isinstance(self.file, str):
            extension, content = _read(root, column(row, self.file, str(self.table)))
            return {extension: content}
        members = {}
        for member, name in self.file.items():
            extension, content = _read(root, column(row, name, str(self.table)))
            if extension != member.rsplit(".", 1)[-1]:
                raise ValueError(f"a .{extension} file where a .{member} is expected")
            members[member] = content
        return members


def _read(root: Path, name: Any) -> tuple[str, bytes]:
    """Extension and content of a file below root; raises ValueError with a reason that can be counted."""
    if not name:
        raise ValueError("no file named in the row")
    path = (root / str(name)).resolve()
    extension = path.suffix[1:].lower()
    extension = _SAME.get(extension, extension)
    if not path.is_relative_to(root):
        raise ValueError("the file lies outside the folder")
    if extension not in MEDIA_EXTENSIONS:
        raise ValueError(f"files of type .{extension} are not decoded")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"the file cannot be read ({error.strerror})") from error
    if not content:
        raise ValueError("the file is empty")
    return extension, content
