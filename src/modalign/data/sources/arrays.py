"""Arrays with labels: NumPy, Parquet or HDF5 files whose rows are samples."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from modalign.data.disk import disk_error
from modalign.data.extensions import check_media_extension
from modalign.data.sources.encode import encode_array
from modalign.data.sources.items import Dropped, Item, clean_key
from modalign.data.sources.labels import Labels, make_labels
from modalign.data.sources.tables import Row, column, need_package, read_table
from modalign.errors import ModalignError, unknown_name

Rows = Iterable[tuple[Any, Row]]


class ArraySource:
    """Rows of `file` (.npy, .npz, .parquet, .h5, .hdf5), each a sample worded by `labels` from its columns.

    `array` names the array or column that is the medium (.npy has but one); the other arrays of one value a row are
    label columns, and so are those of `table`, where one is given (with a row for each row of the array). `extension`
    is how a row is stored: npy as it is; png for uint8 [H, W], [H, W, 3] or uint16 [H, W]; flac for a sound, which
    needs `rate_hz`. `shape` reshapes flat rows. Bytes in a Parquet column are stored as they are.
    """

    def __init__(
        self,
        file: str | Path,
        array: str | None = None,
        table: str | Path | None = None,
        extension: str = "npy",
        shape: Sequence[int] | None = None,
        rate_hz: int | None = None,
        labels: Labels | Mapping[str, Any] | None = None,
    ) -> None:
        self.file, self.array, self.table = Path(file), array, table
        self.extension = check_media_extension(extension, "make.extension")
        self.shape, self.rate_hz = shape, rate_hz
        self.labels = make_labels(labels)
        known = (".npy", ".npz", ".parquet", ".h5", ".hdf5")
        if self.file.suffix.lower() not in known:
            raise unknown_name("type of array file", self.file.suffix or self.file.name, known, str(self.file))
        if not self.file.is_file():
            raise ModalignError(f"no array file at {self.file}: set make.file")

    def __iter__(self) -> Iterator[Item | Dropped]:
        """Samples in the file's order, with what was left out in between."""
        where = str(self.file if self.table is None else self.table)
        try:
            num_rows, rows = self._rows()
            extra = self._extra(num_rows)
            for number, (value, row) in enumerate(rows):
                if extra is not None:
                    row = row | extra[number]
                key = clean_key(number, self.file.stem)
                try:
                    content = encode_array(value, self.extension, self.shape, self.rate_hz)
                    record = self.labels.record(row, where)
                except ValueError as error:
                    yield Dropped(key, str(error))
                    continue
                members = {self.extension: content, "json": json.dumps(record, ensure_ascii=False).encode()}
                yield self.labels.split_of(row, number, num_rows, where), key, members
        except OSError as error:
            raise disk_error(error, self.file, "read") from error

    def _rows(self) -> tuple[int, Rows]:
        suffix = self.file.suffix.lower()
        if suffix == ".parquet":
            return _parquet_rows(self.file, self._name())
        if suffix in (".h5", ".hdf5"):
            return _hdf5_rows(self.file, self._name())
        try:
            loaded = np.load(self.file, mmap_mode="r" if suffix == ".npy" else None, allow_pickle=False)
            if suffix == ".npy":
                return len(loaded), ((value, {}) for value in loaded)
            with closing(loaded):
                arrays = {name: loaded[name] for name in loaded.files}
        except (ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
            raise ModalignError(f"{self.file} is not a readable array file: {error}") from error
        return _array_rows(arrays, self._name(), str(self.file))

    def _name(self) -> str:
        if self.array is None:
            raise ModalignError(f"{self.file}: set make.array to the name of the array that is the medium")
        return self.array

    def _extra(self, num_rows: int) -> list[Row] | None:
        if self.table is None:
            return None
        rows = read_table(self.table)
        if len(rows) != num_rows:
            raise ModalignError(f"{self.table} has {len(rows)} rows, {self.file} has {num_rows}: they must agree")
        return rows


def _array_rows(arrays: Mapping[str, Any], name: str, where: str) -> tuple[int, Rows]:
    """Rows of the named array, each with its value in every other array of one value a row."""
    medium = column(dict(arrays), name, where)
    if not medium.shape:
        raise ModalignError(f"{where}: {name} is a single value, not an array with a row for each sample")
    labels = {other: values for other, values in arrays.items() if other != name and values.shape == medium.shape[:1]}

    def rows() -> Rows:
        for number in range(len(medium)):
            yield medium[number], {other: _plain(values[number]) for other, values in labels.items()}

    return len(medium), rows()


def _plain(value: Any) -> Any:
    """A NumPy scalar or bytes as plain Python."""
    value = value.item() if isinstance(value, np.generic) else value
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _hdf5_rows(path: Path, name: str) -> tuple[int, Rows]:
    try:
        import h5py
    except ImportError as error:
        raise need_package("h5py", "HDF5") from error
    file = h5py.File(path, "r")
    datasets: dict[str, Any] = {}

    def note(found: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            datasets[found] = item

    file.visititems(note)
    # Labels are small and are read whole; the medium stays on disk.
    arrays = {found: item if found == name else item[()] for found, item in datasets.items() if item.shape is not None}
    count, rows = _array_rows(
        {found: item for found, item in arrays.items() if hasattr(item, "shape")}, name, str(path)
    )
    return count, _closing(rows, file)


def _closing(rows: Rows, file: Any) -> Rows:
    with closing(file):
        yield from rows


def _parquet_rows(path: Path, name: str) -> tuple[int, Rows]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise need_package("pyarrow", "Parquet") from error
    try:
        file = parquet.ParquetFile(path)
    except pyarrow.ArrowInvalid as error:
        raise ModalignError(f"{path} is not a readable Parquet file: {error}") from error
    if name not in file.schema_arrow.names:
        raise unknown_name("column", name, file.schema_arrow.names, str(path))

    def rows() -> Rows:
        for batch in file.iter_batches(batch_size=256):
            for row in batch.to_pylist():
                value = row.pop(name)
                yield value.get("bytes") if isinstance(value, dict) else value, row

    return file.metadata.num_rows, rows()
