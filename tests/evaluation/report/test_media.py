"""Each kind of file is shown as its kind: by its extension, its array's shape, or the sample's own word."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from modalign.evaluation.report.media import MAX_INLINE_BYTES, Medium, array_display, link, show
from modalign.evaluation.report.ply import read_vertices
from modalign.evaluation.report.tint import colours


def shown(folder, name, data, display=None, axes=None):
    (folder / name).write_bytes(data)
    return show(Medium("sensor", folder / name, display, axes or {}))


def npy(values):
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def pixels_of(html):
    url = re.search(r'src="data:image/png;base64,([^"]+)"', html).group(1)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url))))


@pytest.mark.parametrize(
    ("sensor", "expected"),
    [
        ("image", ['<img class="pixels"', "data:image/jpeg;base64,", "48 x 48 px"]),
        ("video", ["<video controls", "data:video/mp4;base64,", 'class="strip"', "12 frames, 1.5 s"]),
        ("point", ['class="points"', "data-cloud=", "400 points", "background-image:url(data:image/png"]),
        ("audio", ["<audio controls", "data:audio/flac;base64,", "<polygon", "1.0 s, 8 kHz", "0.4 s"]),
        ("depth", ["data:image/png;base64,", "1.20 m", "grey: no return"]),
        ("normal", ['<img class="pixels"', "data:image/png;base64,"]),
        ("imu", ["m/s²", "rad/s", "seconds", ">ax<", ">gz<"]),
        ("fmri", ['class="strip"', "384 values, 64 a row"]),
    ],
)
def test_each_sensors_file_is_shown_as_a_person_would_want_it(encoded, tmp_path, sensor, expected):
    extension, data, axes = encoded[sensor]
    html = shown(tmp_path, f"a.{extension}", data, axes=axes)
    for piece in expected:
        assert piece in html
    assert "cannot be shown" not in html


def test_the_media_in_the_page_are_the_files_themselves(encoded, tmp_path):
    for sensor in ("image", "video", "audio"):
        extension, data, _ = encoded[sensor]
        assert base64.b64encode(data).decode() in shown(tmp_path, f"a.{extension}", data)


@pytest.mark.parametrize(
    ("shape", "display"),
    [((384,), "vector"), ((100, 6), "series"), ((100, 3), "series"), ((64, 80), "map"), ((1, 64, 80), "map"),
     ((64, 80, 3), "map"), ((8, 32, 32), "frames"), ((8, 32, 32, 3), "frames")],
)  # fmt: skip
def test_an_arrays_shape_chooses_its_display(shape, display):
    assert array_display(np.random.default_rng(0).standard_normal(shape)) == display


def test_six_columns_are_points_only_where_the_last_three_are_colours():
    places = np.random.default_rng(0).standard_normal((50, 3))
    assert array_display(np.hstack([places, np.abs(np.tanh(places))])) == "points"
    assert array_display(np.hstack([places, np.full((50, 3), 128.0)])) == "points"
    assert array_display(np.hstack([places, places])) == "series"


def test_the_samples_own_word_comes_first(tmp_path):
    data = npy(np.random.default_rng(0).standard_normal((50, 3)))
    assert "<polyline" in shown(tmp_path, "a.npy", data)
    assert 'class="points"' in shown(tmp_path, "a.npy", data, "points")
    assert "values, 64 a row" in shown(tmp_path, "a.npy", data, "vector")


def test_a_depth_pictures_colours_stand_for_metres(tmp_path):
    counts = np.array([[1000, 2000], [3000, 0]], np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(counts).save(buffer, "PNG")
    html = shown(tmp_path, "a.png", buffer.getvalue())
    assert "3.00 m" in html
    assert "1.00 m" in html
    assert "25.0%" in html
    near, middle, far, lost = pixels_of(html).reshape(4, 3)
    assert near.tolist() == colours(np.array(1.0)).tolist()
    assert middle.tolist() == colours(np.array(0.5)).tolist()
    assert far.tolist() == colours(np.array(0.0)).tolist()
    assert lost.tolist() == [128, 128, 128]
    assert "300.00 m" in shown(tmp_path, "b.png", buffer.getvalue(), axes={"unit_m": 0.1})


def test_a_cloud_keeps_its_places_and_colours(tmp_path):
    values = np.array([[0, 0, 0, 1, 0, 0], [2, 1, 0, 0, 1, 0], [1, 1, 1, 0, 0, 0.5]])
    html = shown(tmp_path, "a.npy", npy(values), "points")
    packed = base64.b64decode(re.search(r'data-cloud="([^"]+)"', html).group(1))
    places = np.frombuffer(packed[:18], "<i2").reshape(3, 3) / 32767
    np.testing.assert_allclose(places, [[-1, -0.5, -0.5], [1, 0.5, -0.5], [0, 0.5, 0.5]], atol=1e-4)
    assert np.frombuffer(packed[18:], np.uint8).reshape(3, 3).tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 128]]


HEADER = "element vertex 2\nproperty float x\nproperty float y\nproperty float z\n"
TINTS = "property uchar red\nproperty uchar green\nproperty uchar blue\n"


def test_ply_files_are_read_in_ascii_and_binary(tmp_path):
    faces = "element face 0\nproperty list uchar int vertex_indices\n"
    ascii_file = f"ply\nformat ascii 1.0\n{HEADER}{faces}end_header\n0 1 2\n3 4 5\n"
    assert read_vertices(ascii_file.encode()).tolist() == [[0, 1, 2], [3, 4, 5]]
    rows = np.array([((0, 1, 2), (255, 0, 0)), ((3, 4, 5), (0, 255, 0))], [("p", "<f4", 3), ("c", "u1", 3)])
    binary = f"ply\nformat binary_little_endian 1.0\n{HEADER}{TINTS}end_header\n".encode() + rows.tobytes()
    assert read_vertices(binary)[1].tolist() == [3, 4, 5, 0, 255, 0]
    assert "2 points" in shown(tmp_path, "a.ply", binary)
    with pytest.raises(ValueError, match="it has no header"):
        read_vertices(b"solid")


def test_tables_archives_maps_and_stacks_are_shown(tmp_path):
    table = b"left,right\n" + b"\n".join(f"{i},{i * i}".encode() for i in range(40))
    html = shown(tmp_path, "a.csv", table, axes={"channels": ["left", "right"], "rate_hz": 10})
    assert ">right<" in html
    assert "seconds" in html
    buffer = io.BytesIO()
    np.savez(buffer, values=np.arange(12.0))
    assert "12 values" in shown(tmp_path, "a.npz", buffer.getvalue())
    assert "2 °C" in shown(tmp_path, "b.npy", npy(np.full((40, 50), 2.0)), axes={"unit": "°C"})
    assert "9 frames" in shown(tmp_path, "c.npy", npy(np.random.default_rng(0).random((9, 16, 16, 3))))


def test_an_unknown_file_is_a_link_that_holds_it(tmp_path):
    html = shown(tmp_path, "<odd>.xyz", b"contents")
    assert f'href="data:application/octet-stream;base64,{base64.b64encode(b"contents").decode()}"' in html
    assert 'download="&lt;odd&gt;.xyz"' in html
    assert "<odd>" not in html


def test_a_file_too_large_for_the_page_is_named_with_its_size():
    html = link("a.xyz", bytes(MAX_INLINE_BYTES + 1), {})
    assert "12.0 MB" in html
    assert "href" not in html


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.mp4", "a.flac", "a.npy", "a.npz", "a.csv", "a.ply"])
@pytest.mark.parametrize("data", [b"", b"not what it says", b"PK\x03\x04", b"\x93NUMPY\x01"])
def test_a_damaged_file_is_a_note_and_never_an_error(tmp_path, name, data):
    html = shown(tmp_path, name, data)
    assert "cannot be shown" in html


def test_pickles_are_not_opened(tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert "cannot be shown" in shown(tmp_path, "a.npy", buffer.getvalue())


def test_a_missing_file_and_a_wrong_display_are_told(tmp_path):
    assert "No such file" in show(Medium("sensor", tmp_path / "a.jpg"))
    assert "did you mean &#x27;series&#x27;" in shown(tmp_path, "b.npy", npy(np.zeros(3)), "serie")
    assert "2 names for 3 channels" in shown(tmp_path, "c.npy", npy(np.zeros((9, 3))), axes={"channels": ["a", "b"]})
