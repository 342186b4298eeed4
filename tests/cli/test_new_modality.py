"""A modality that nobody foresaw: one sample in, one YAML out, which composes and whose tokenizer runs."""

import csv

import numpy as np
import pytest
import soundfile
import yaml
from PIL import Image

from modalign.cli.drafts.kinds import FEWEST_TOKENS, MOST_TOKENS, patches, window

RNG = np.random.default_rng(0)


def numbers(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def write(path, content):
    if path.suffix == ".npy":
        np.save(path, content)
    elif path.suffix == ".csv":
        np.savetxt(path, content, delimiter=",", header="a,b", comments="")
    elif path.suffix in (".wav", ".flac"):
        soundfile.write(path, content, 8000)
    elif path.suffix == ".ply":
        rows = "\n".join(" ".join(f"{v:.3f}" for v in row) for row in content)
        head = f"ply\nformat ascii 1.0\nelement vertex {len(content)}\n"
        head += "property float x\nproperty float y\nproperty float z\nend_header\n"
        path.write_text(head + rows + "\n")
    else:
        Image.fromarray(content).save(path)
    return path


SAMPLES = {
    "glove.npy": (numbers(200, 5), [], "series", "mode: at_most"),
    "lever.npy": (numbers(40000, 2), [], "series", "mode: resample"),
    "table.csv": (numbers(90, 2), [], "series", "num_channels: 2"),
    "wire.npy": (numbers(300), ["--kind", "series"], "series", "num_channels: 1"),
    "genes.npy": (numbers(500), [], "vector", "default: 500"),
    "column.csv": (numbers(500, 1), ["--kind", "vector"], "vector", "default: 500"),
    "radar.npy": (numbers(100, 70), [], "map", "MapTokenizer"),
    "touch.npy": (numbers(8, 12, 3), [], "map", "channels: 3"),
    "film.npy": (numbers(20, 30, 40), [], "frames", "num_frames: 8"),
    "lidar.npy": (numbers(900, 3), ["--kind", "points"], "points", "PointTokenizer"),
    "scan.ply": (numbers(60, 3), [], "points", "PointDecoder"),
    "heat.png": (RNG.integers(0, 255, (60, 80, 3)).astype(np.uint8), [], "image", "part: visual"),
    "deep.png": (RNG.integers(0, 5000, (60, 80)).astype(np.uint16), [], "image", "DepthDecoder"),
    "knock.wav": (numbers(8000) * 0.1, [], "sound", "SpectrogramTokenizer"),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_becomes_a_yaml_that_composes_and_gives_a_sensible_number_of_tokens(modalign, tmp_path, name):
    content, words, kind, expected = SAMPLES[name]
    sample, conf = write(tmp_path / name, content), tmp_path / "conf"
    said = modalign("new-modality", "gesture", sample, "--out", conf, *words)
    assert said.code == 0, said.err
    assert f"taken for {kind}" in said.out
    text = (conf / "modalities" / "embedded" / "gesture.yaml").read_text()
    assert text.startswith("# Gesture: read as ")
    assert expected in text
    tokens = int(said.out.split(" tokens of width 128")[0].rsplit(" ", 1)[1])
    assert FEWEST_TOKENS <= tokens <= MOST_TOKENS
    made = yaml.safe_load(text)  # the verb has composed it already
    assert made["start"] == {"from": "image"}
    assert made["encoder"] == "clip"
    assert made["positions"]["learned"]
    assert made["recipes"] == []
    fitted = kind == "vector"  # few samples of many values are learned by heart otherwise
    assert made["tokenizer"].get("start") == ("captions" if fitted else "encoder" if kind == "image" else None)
    assert made.get("tokenizer_rate_scale", 1.0) == (0.1 if fitted else 1.0)


@pytest.mark.parametrize("length", [8, 9, 20, 33, 50, 64, 100, 151, 400, 1000, 3999])
def test_windows_over_a_series_are_neither_few_nor_many(length):
    kernel, stride = window(length)
    assert FEWEST_TOKENS <= (length - kernel) // stride + 1 <= MOST_TOKENS


def test_patches_of_maps_of_any_shape_are_neither_few_nor_many():
    for high in (1, 2, 3, 5, 8, 13, 32, 47, 100, 333):
        for wide in (1, 2, 3, 5, 8, 13, 32, 47, 100, 333):
            size, patch = patches(high, wide)
            count = (size[0] // patch[0]) * (size[1] // patch[1])
            assert size[0] % patch[0] == size[1] % patch[1] == 0
            assert 1 <= count <= MOST_TOKENS
            assert count >= FEWEST_TOKENS or high * wide < 4 * FEWEST_TOKENS


@pytest.fixture
def glove(tmp_path):
    """Recordings of a data glove with a caption table."""
    folder = tmp_path / "glove"
    folder.mkdir()
    with (folder / "captions.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["take", "path", "caption"])
        for number in range(20):
            np.save(folder / f"{number:02d}.npy", numbers(60, 4) + number % 2)
            table.writerow([number, f"{number:02d}.npy", f"a {'high' if number % 2 else 'low'} gesture"])
    return folder


def test_a_folder_with_captions_becomes_the_recipe_of_the_new_modality(modalign, tmp_path, glove):
    conf, recipes, data = tmp_path / "conf", tmp_path / "recipes", tmp_path / "data"
    said = modalign("new-modality", "gesture", glove / "00.npy", "--out", conf, "--recipe", glove, "--recipes", recipes)
    assert said.code == 0, said.err
    assert "20 rows, files in column 'path', captions in column 'caption'" in said.out
    (command,) = [line.split(None, 2)[2] for line in said.out.splitlines() if "modalign shards" in line]
    assert command == f"gesture --config-dir {conf} 'paths.recipes=[{recipes}]'"
    places = ["--config-dir", conf, f"paths.recipes=[{recipes}]", "--data", data]
    assert "20 written, 0 dropped" in modalign("shards", "gesture", *places).out
    assert "gesture: 4 x 60" in modalign("show", "gesture", *places, "-n", "1").out
    planned = modalign("plan", "stage=align", "modality=gesture", "curriculum.groups=[[image],[gesture]]", *places)
    assert planned.code == 0, planned.err
    assert "align-gesture-" in planned.out
    recipe = yaml.safe_load((recipes / "gesture.yaml").read_text())
    assert recipe["media"] == {"gesture": "npy"}


def test_a_table_that_does_not_fit_leaves_no_yaml_behind(modalign, tmp_path, glove):
    (glove / "captions.csv").write_text("path,words\n00.npy,x\n")
    conf = tmp_path / "conf"
    words = ["new-modality", "gesture", glove / "00.npy", "--out", conf, "--recipes", tmp_path / "recipes"]
    assert "has no caption column" in modalign(*words, "--recipe", glove).error
    assert not list(conf.rglob("*.yaml"))
    (glove / "second.csv").write_text("x\n")
    assert "needs one caption table" in modalign(*words, "--recipe", glove).error
    assert "no such folder or table" in modalign(*words, "--recipe", tmp_path / "nowhere").error


def test_what_cannot_be_a_modality_is_refused_in_one_line(modalign, tmp_path):
    series = write(tmp_path / "a.npy", numbers(50, 3))
    odd = np.full((50, 3), np.nan)
    refused = {
        ("image", series): "there is a modality 'image' already",
        ("Loud-Name", series): "cannot name a modality",
        ("new", write(tmp_path / "wide.npy", numbers(3, 200))): "store it as [steps, channels]",
        ("new", write(tmp_path / "deep.npy", numbers(2, 2, 2, 2, 2))): "is none of",
        ("new", write(tmp_path / "odd.npy", odd)): "not finite",
        ("new", tmp_path / "none.npy"): "cannot read",
        ("new", tmp_path / "model.pkl"): "are refused",
    }
    for (name, sample), message in refused.items():
        assert message in modalign("new-modality", name, sample, "--out", tmp_path / "conf").error
    words = ["new-modality", "new", series, "--out", tmp_path / "conf"]
    assert "can be series or map" in modalign(*words, "--kind", "sound").error
    assert "not [points, 3 or 6]" in modalign(
        "new-modality", "new", write(tmp_path / "five.npy", numbers(50, 5)), "--kind", "points", "--out", tmp_path
    ).error  # fmt: skip
    assert "did you mean 'embedded'?" in modalign(*words, "--set", "embeded").error
    assert modalign(*words).code == 0
    assert "there is a modality 'new' already" in modalign(*words).error
