"""A sense that nobody foresaw: one YAML and one recipe outside the repository, no Python, from arrays to an answer."""

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from modalign.cli.main import run_verb
from modalign.config.build import build
from modalign.config.compose import compose_settings
from modalign.evaluation.scores import read_results
from modalign.runs.manifest import read_manifest
from modalign.stages.assemble import build_tokenizers

ROOT = Path(__file__).resolve().parents[1]
MODALITY = {
    "title": "Radar",
    "decoder": {"_target_": "modalign.data.decoders.maps.MapDecoder", "size": [32, 32]},
    "tokenizer": {
        "part": "radar", "_target_": "modalign.models.tokenizers.maps.MapTokenizer", "width": 128,
        "kernel": [8, 4], "stride": [8, 4], "channels": 1, "size": [32, 32],
    },
    "positions": {"learned": True},
    "encoder": "clip",
    "projector": "upm",
    "prompts": ["Describe what the radar sees."],
    "start": {"from": "image"},
    "recipes": ["radar"],
    "display": {"kind": "map"},
}  # fmt: skip
RECIPE = {
    "name": "radar", "title": "Echoes", "source": "made here", "licence": "CC0-1.0", "task": "caption",
    "media": {"radar": "npy"}, "splits": {"train": None, "val": None, "test": None}, "folder": "radar",
    "make": {
        "_target_": "modalign.data.sources.ArraySource", "file": "radar.npz", "array": "maps",
        "labels": {"caption": "a {size} thing that is {distance}"},
    },
}  # fmt: skip
SAMPLES = {
    "series": (300, 4), "vector": (90,), "map": (40, 50), "frames": (6, 32, 32), "points": (400, 3),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def write_yaml(path: Path, content: dict) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def make_maps(path: Path, count: int = 60) -> None:
    rng = np.random.default_rng(0)
    distance, size = rng.integers(2, size=count), rng.integers(2, size=count)
    maps = rng.normal(0, 0.3, (count, 32, 32)).astype("float32")
    for number in range(count):
        row = 6 + 16 * distance[number]
        maps[number, row : row + 4, 14:18] += 2 + 4 * size[number]
    np.savez(path, maps=maps, distance=np.array(["near", "far"])[distance], size=np.array(["small", "large"])[size])


@pytest.fixture
def outside(tmp_path, tiny_runs, monkeypatch):
    """Somebody's own folder, with files of theirs and runs of the eight senses that are finished already."""
    shutil.copytree(tiny_runs.runs, tmp_path / "runs")
    shutil.copytree(tiny_runs.data, tmp_path / "data")
    write_yaml(tmp_path / "my_conf/modalities/embedded/radar.yaml", MODALITY)
    write_yaml(tmp_path / "my_recipes/radar.yaml", RECIPE)
    make_maps(tmp_path / "radar.npz")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(arguments):
    spec = importlib.util.spec_from_file_location("train", ROOT / "train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main(arguments)


OWN = ["--config-dir", "my_conf", "paths.recipes=my_recipes"]


def test_a_ninth_sense_is_aligned_measured_and_asked_without_a_line_of_python(outside, capsys):
    tiny = ["debug=tiny", "trainer.progress=false", "trainer.threads=1"]
    assert run_verb("shards", ["radar", *OWN]) == 0
    assert run_verb("verify", ["radar", "--decode", *OWN]) == 0
    before = {path.name for path in (outside / "runs").iterdir()}
    assert train(["stage=align", "modality=radar", "curriculum.groups=[[image],[radar]]", *OWN, *tiny]) == 0

    made = {path.name for path in (outside / "runs").iterdir()} - before
    (run,) = [outside / "runs" / name for name in made if name.startswith("align-")]
    assert run.name.startswith("align-radar-")  # what it stands on was there and was not made again
    manifest, results = read_manifest(run), read_results(run)
    assert manifest.modalities == {"new": ["radar"], "seen": ["image"]}
    parts = {part["name"]: part for part in manifest.parts}
    assert parts["tokenizers.radar"]["gradient"] == "ok"
    assert parts["llm"]["unchanged"]
    assert parts["encoders.clip"]["unchanged"]
    assert {copied["target"] for copied in manifest.start_values} >= {"projectors.upm.ports.radar"}
    score = results.find("radar", "caption", "test", "attribute_accuracy")
    assert score is not None
    assert set(score.detail) == {"size", "distance"}
    assert results.find("image", "caption", "test", "attribute_accuracy") is not None
    assert set(results.router) == {"image", "radar"}
    assert "Radar" in json.dumps(manifest.config)
    assert not list(outside.rglob("*.py"))

    capsys.readouterr()
    np.save(outside / "one.npy", np.load(outside / "radar.npz")["maps"][0])
    assert run_verb("ask", [str(run), "--radar", "one.npy"]) == 0
    assert capsys.readouterr().out.strip()


def test_a_ninth_sense_leaves_the_runs_of_the_other_eight_as_they_are(outside):
    from modalign.config.recipes import RecipeBook
    from modalign.config.specs import Planner

    def identities(arguments, config_dir=None):
        settings, _ = compose_settings(arguments, config_dir)
        return [spec.identity for spec in Planner(settings, RecipeBook(settings)).plan()]

    run_verb("shards", ["radar", *OWN])
    eight = identities(["stage=align"])
    nine = identities(["stage=align", "paths.recipes=my_recipes"], Path("my_conf"))
    assert nine[: len(eight)] == eight
    assert len(nine) == len(eight) + 1


@pytest.mark.parametrize("kind", SAMPLES)
def test_one_sample_is_enough_to_write_the_yaml_of_a_new_sense(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("sample.npy", np.random.default_rng(0).normal(size=SAMPLES[kind]).astype("float32"))
    assert run_verb("new-modality", ["sense", "sample.npy", "--kind", kind, "--out", "my_conf"]) == 0
    settings, _ = compose_settings([], Path("my_conf"))
    sense = settings.modalities["sense"]
    value = build(sense.decoder, "decoder")(Path("sample.npy").read_bytes(), None)
    tokens = build_tokenizers({"sense": sense})["sense"](value[None], (None,))
    assert tokens.shape[1] == max(1, sense.positions.num_frames)
    assert 8 <= tokens.shape[2] <= 64
    assert tokens.shape[3] == 128
    assert len(settings.modalities) == 9
