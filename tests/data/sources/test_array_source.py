"""Arrays with label columns: NumPy, Parquet and HDF5 say the same."""

import io
import json

import numpy as np
import pytest

from modalign.data.decoders import DepthDecoder, ImageDecoder, SpectrogramDecoder, VectorDecoder
from modalign.data.decoding import standardised
from modalign.data.sources import ArraySource, Dropped
from modalign.errors import ModalignError

VALUES = np.random.default_rng(0).normal(size=(12, 20)).astype(np.float32)
COLOUR = np.array([0, 1] * 6)
SHAPE = np.array(["cube", "cone", "ball"] * 4)
LABELS = {"caption": "a {colour} {shape}", "words": {"colour": ["red", "blue"]}}


@pytest.fixture
def files(tmp_path):
    """The same twelve rows in every format."""
    h5py, pyarrow = pytest.importorskip("h5py"), pytest.importorskip("pyarrow")
    from pyarrow import parquet

    np.save(tmp_path / "a.npy", VALUES)
    np.savez(tmp_path / "a.npz", values=VALUES, colour=COLOUR, shape=SHAPE)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["group/values"], file["colour"], file["version"] = VALUES, COLOUR, 3
        file["shape"] = [word.encode() for word in SHAPE]
    columns = {"values": list(VALUES), "colour": COLOUR, "shape": SHAPE}
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    lines = ["colour,shape", *(f"{colour},{shape}" for colour, shape in zip(COLOUR, SHAPE, strict=True))]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    return tmp_path


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.h5", "a.parquet"])
def test_every_format_gives_the_same_samples(files, name):
    table = files / "labels.csv" if name == "a.npy" else None
    array = {"a.npy": None, "a.h5": "group/values"}.get(name, "values")
    items = list(ArraySource(files / name, array, table, labels=LABELS))
    assert len(items) == 12
    for number, (split, key, members) in enumerate(items):
        assert split in {"train", "val", "test"}
        assert key == f"{number:08d}-a"
        assert json.loads(members["json"])["caption"] == f"a {['red', 'blue'][number % 2]} {SHAPE[number]}"
        assert np.allclose(VectorDecoder()(members["npy"]).numpy(), VALUES[number])


def test_rows_become_pictures_sounds_and_depth_maps(tmp_path):
    (tmp_path / "t.csv").write_text("caption\nx\nx\n")
    pictures = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    cases = (
        (pictures, "png", ImageDecoder(8, (0, 0, 0), (1, 1, 1)), pictures[0].transpose(2, 0, 1) / 255, None),
        (np.full((2, 8, 8), 2500, np.uint16), "depth.png", DepthDecoder(8, 5, 0, 1), np.full((3, 8, 8), 0.5), None),
        (np.zeros((2, 4000), np.float32), "flac", SpectrogramDecoder(8000, 32, 20), None, 8000),
    )
    for array, extension, decoder, expected, rate_hz in cases:
        np.save(tmp_path / "a.npy", array)
        items = list(ArraySource(tmp_path / "a.npy", table=tmp_path / "t.csv", extension=extension, rate_hz=rate_hz))
        value = standardised(decoder, decoder(items[0][2][extension]))
        assert expected is None or np.allclose(value.numpy(), expected, atol=1e-6)


def test_flat_rows_are_reshaped_and_encoded_pictures_kept(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from PIL import Image
    from pyarrow import parquet

    np.savez(tmp_path / "a.npz", flat=np.arange(128, dtype=np.uint8).reshape(2, 64), caption=np.array(["x", "y"]))
    (_, _, members), _ = ArraySource(tmp_path / "a.npz", "flat", extension="png", shape=[8, 8])
    assert np.asarray(Image.open(io.BytesIO(members["png"]))).tolist() == np.arange(64).reshape(8, 8).tolist()
    rows = [{"image": {"bytes": members["png"], "path": "a.png"}, "caption": "x"}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    ((_, _, kept),) = ArraySource(tmp_path / "a.parquet", "image", extension="png")
    assert kept["png"] == members["png"]


def test_rows_that_cannot_be_used_are_dropped_by_reason(tmp_path):
    values = VALUES.copy()
    values[3, 4] = np.nan
    captions = np.array(["x"] * 12)
    captions[7] = ""
    np.savez(tmp_path / "a.npz", values=values, caption=captions)
    items = list(ArraySource(tmp_path / "a.npz", "values"))
    assert [(i, item.reason) for i, item in enumerate(items) if isinstance(item, Dropped)] == [
        (3, "values that are not finite"),
        (7, "empty caption"),
    ]


def test_pickled_arrays_are_never_loaded(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"x": 1}, None], dtype=object), allow_pickle=True)
    with pytest.raises(ModalignError, match=r"not a readable array file: .*Python objects"):
        list(ArraySource(tmp_path / "a.npy"))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"file": "a.mat"}, "unknown type of array file '.mat'"),
        ({"file": "none.npy"}, "no array file at"),
        ({"file": "a.npz"}, "set make.array"),
        ({"file": "a.npz", "array": "vaules"}, "unknown column 'vaules' .*did you mean 'values'"),
        ({"file": "a.h5", "array": "values"}, "unknown column 'values' .*did you mean 'group/values'"),
        ({"file": "a.parquet", "array": "vaules"}, "did you mean 'values'"),
        ({"file": "a.npy", "table": "short.csv"}, r"short.csv has 1 rows, .*a.npy has 12: they must agree"),
        ({"file": "a.npy", "table": "long.csv"}, r"unknown column .colour. in .*long.csv"),
        ({"file": "a.npz", "array": "values", "extension": "pkl"}, r"make.extension: files of type .pkl are refused"),
        ({"file": "a.npz", "array": "values", "extension": "mp4"}, "stored as npy, png, flac or wav, not mp4"),
        ({"file": "a.npz", "array": "values", "extension": "flac"}, "make.rate_hz must be set"),
        ({"file": "broken.parquet", "array": "values"}, "not a readable Parquet file"),
        ({"file": "broken.npz", "array": "values"}, "not a readable array file"),
    ],
)
def test_mistakes_are_told_in_one_line(files, settings, reason):
    (files / "short.csv").write_text("caption\nx\n")
    (files / "long.csv").write_text("caption\n" + 12 * "x\n")
    (files / "a.mat").write_bytes(b"x")
    (files / "broken.parquet").write_bytes(b"PAR1 nothing")
    (files / "broken.npz").write_bytes(b"PK\x03\x04 nothing")
    paths = {key: files / value if key in ("file", "table") else value for key, value in settings.items()}
    with pytest.raises(ModalignError, match=reason) as caught:
        list(ArraySource(**paths, labels=LABELS))
    assert "\n" not in str(caught.value)
