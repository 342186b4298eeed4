"""Maps derived from pictures: what the model says becomes millimetres and directions, whatever the batch."""

import io
import json
import pickle
import tarfile

import numpy as np
import pytest
from PIL import Image

from modalign.data.decoders import DepthDecoder, ImageDecoder, NormalDecoder, StackDecoder
from modalign.data.sources.derived import DerivedMaps, inverse_to_metres, normals_of
from modalign.errors import ModalignError

TARS = {"_target_": "modalign.data.sources.TarSource", "copy": True}


@pytest.fixture
def pictures(tmp_path, media):
    """A tar of pictures of two shapes, one of them damaged."""
    with tarfile.open(tmp_path / "00000.tar", "w") as tar:
        for number in range(6):
            content = media.picture(number, size=(24, 16) if number % 2 else (20, 30))
            words = json.dumps({"caption": f"picture {number}"}).encode()
            for extension, data in (("jpg", content[: 90 if number == 4 else None]), ("json", words)):
                entry = tarfile.TarInfo(f"{number:03d}.{extension}")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    return tmp_path


def maps(folder, model, **settings):
    source = DerivedMaps(folder, TARS, model=str(model), device="cpu", **settings)
    (unit,) = source.units(1000, ["train"])
    return list(pickle.loads(pickle.dumps(source)).convert(unit))


def test_every_picture_gets_a_map_of_its_size_and_damage_is_counted(pictures, tiny_dpt):
    found = maps(pictures, tiny_dpt, batch_size=2)
    kept = {item[0]: item[1] for item in found if isinstance(item, tuple)}
    assert len(kept) == 5
    assert [item.key for item in found if not isinstance(item, tuple)] == ["00000004-004"]
    for key, members in kept.items():
        depth = np.asarray(Image.open(io.BytesIO(members["depth.png"])))
        size = Image.open(io.BytesIO(members["jpg"])).size
        assert depth.dtype == np.uint16
        assert depth.shape == size[::-1], key
        assert depth.min() >= 999
        assert depth.max() <= 10001
        both = StackDecoder([ImageDecoder(16), DepthDecoder(16, 10.0)])((members["jpg"], members["depth.png"]))
        assert both.shape == (2, 3, 16, 16)


def test_the_size_of_a_batch_does_not_change_the_maps(pictures, tiny_dpt):
    one, four = (maps(pictures, tiny_dpt, batch_size=size, output="normal") for size in (1, 4))
    by_key = {item[0]: item[1] for item in one if isinstance(item, tuple)}
    for key, members in (item for item in four if isinstance(item, tuple)):
        alone, together = (
            np.asarray(Image.open(io.BytesIO(m["normal.png"]))).astype(int) for m in (by_key[key], members)
        )
        assert np.abs(alone - together).max() <= 1
        assert NormalDecoder(16)(members["normal.png"]).shape == (3, 16, 16)


def test_the_picture_may_be_left_out_and_large_ones_are_scaled_down(pictures, tiny_dpt):
    members = maps(pictures, tiny_dpt, keep_picture=False, max_px=10)[1][1]
    assert set(members) == {"json", "depth.png"}
    assert max(Image.open(io.BytesIO(members["depth.png"])).size) == 10


def test_the_largest_inverse_depth_is_nearest():
    depth = inverse_to_metres(np.array([[0.0, 5.0, 10.0]]), 1.0, 10.0)
    np.testing.assert_allclose(depth, [[10.0, 1 / 0.55, 1.0]])
    assert inverse_to_metres(np.zeros((2, 2)), 1.0, 10.0).std() == 0


def test_a_wall_faces_the_viewer_and_a_receding_one_turns():
    flat = normals_of(np.full((8, 8), 2.0), 60.0)
    assert np.abs(flat.astype(int) - (128, 128, 255)).max() <= 1
    columns = np.linspace(2.0, 3.0, 9)[None].repeat(9, axis=0)
    away_to_the_right, away_downwards = normals_of(columns, 60.0)[4, 4], normals_of(columns.T, 60.0)[4, 4]
    assert away_to_the_right[0] > 140  # its right side is farther, so it looks to the right
    assert abs(int(away_to_the_right[1]) - 128) <= 1
    assert away_downwards[1] < 115  # its lower side is farther, so it looks downwards
    assert away_downwards[2] > 128


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"model": "/nowhere/dpt"}, "the depth model /nowhere/dpt cannot be loaded .*make.model=<folder>"),
        ({"output": "edges"}, "unknown output 'edges'"),
        ({"near_m": 5.0, "far_m": 2.0}, "near_m=5.0 < far_m=2.0"),
        ({"source": {"_target_": "os.system"}}, "outside the allowed packages"),
        ({"source": {"_target_": "modalign.data.sources.NoSource"}}, "did you mean 'modalign.data.sources"),
        ({"source": {**TARS, "foldr": 1}}, "unexpected keyword argument 'foldr'"),
        (
            {"source": {"_target_": "modalign.data.sources.FolderSource", "table": "x.csv"}},
            "sources that come in pieces",
        ),
    ],
)
def test_what_cannot_be_derived_is_told_in_one_line(pictures, monkeypatch, settings, reason):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def derive():
        source = DerivedMaps(pictures, **({"source": TARS} | settings))
        (unit,) = source.units(10, ["train"])
        list(source.convert(unit))

    with pytest.raises(ModalignError, match=reason) as told:
        derive()
    assert "\n" not in str(told.value)
