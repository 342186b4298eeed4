"""`modalign plan`: what would run, what it would cost, and what is missing, without making anything."""

import json
from pathlib import Path

import numpy as np
import pytest

from modalign.data.shards import ShardWriter
from modalign.data.sources.encode import encode_png

SHORT = (
    "debug=tiny", "stage=align", "modality=audio", "curriculum.groups=[[image],[audio]]", "model.backbones=[]",
    "model.projectors.upm.expert_layers=1", "model.language_model.source.num_hidden_layers=2",
    "model.encoders.clip.architecture.vision_cfg.layers=2",
)  # fmt: skip
LARGE = """
# A language model of seven billion parameters that is not here.
defaults: [embedded, _self_]
name: large
modality_set: embedded
backbones: []
make_missing: false
language_model:
  source: somebody/large-7b
  dtype: bfloat16
  attention: sdpa
  architecture:
    {model_type: llama, vocab_size: 32000, hidden_size: 4096, intermediate_size: 11008, num_hidden_layers: 32,
     num_attention_heads: 32}
"""

HALF = """
# The embedded model with its language model in half precision.
defaults: [embedded, _self_]
name: half
modality_set: embedded
language_model: {dtype: bfloat16}
"""


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """A folder in which nothing is there."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_each_run_to_be_made_is_told_with_its_cost(modalign, empty):
    said = modalign("plan", *SHORT, "--json", "plan.json")
    assert said.code == 0, said.err
    plan = json.loads((empty / "plan.json").read_text())
    image, audio = plan["phases"]
    assert (image["new"], audio["new"], audio["seen"]) == (["image"], ["audio"], ["image"])
    assert {r["name"]: r["replayed"] for r in audio["recipes"]} == {"world_image": True, "world_audio": False}
    assert sum(r["samples"] for r in audio["recipes"]) == audio["samples"] == audio["steps"] * 8
    assert audio["tokens"]["audio"] == {"frames": 1, "tokens": 47, "encoded": 48, "soft": 10}
    frozen = {p["name"] for p in audio["parts"] if not p["trains"]}
    assert {"llm", "encoders.clip"} <= frozen
    for name in ("llm", "encoders.clip", "projectors.upm", "trains", "frozen", "world_audio", "replayed", "recompute"):
        assert (name in said.out) == (name != "recompute")
    assert plan["total"]["flops"] == pytest.approx(sum(r["flops"] for p in plan["phases"] for r in p["recipes"]))
    assert not (empty / "runs").exists()
    assert not (empty / "data").exists()


def test_hours_are_flops_over_devices_peak_and_utilisation_which_are_told(modalign, empty):
    words = ("--hardware", "a100", "--devices", "2", "--peak-tflops", "100", "--utilisation", "0.5", "--json", "p.json")
    said = modalign("plan", *SHORT, *words)
    plan = json.loads((empty / "p.json").read_text())
    assert plan["hardware"]["name"] in said.out
    assert "2 x A100" in said.out
    assert "peak 100 TFLOP/s each, of which 50% are assumed" in said.out
    for phase in plan["phases"]:
        assert phase["hours"] == pytest.approx(phase["total_flops"] / (100e12 * 0.5 * 2) / 3600)
    assert plan["engine"] == {"name": "ddp", "world_size": 2, "recompute": False, "accumulates": False}


def test_what_trains_is_held_in_float32_and_adapters_are_a_part_of_their_own(modalign, empty):
    (empty / "own" / "model").mkdir(parents=True)
    (empty / "own" / "model" / "half.yaml").write_text(HALF)
    tuning = [word for word in SHORT if word not in ("stage=align", "modality=audio")]
    words = ("plan", *tuning, "stage=instruct", "modality=image", "--config-dir", "own", "model=half", "--json", "p")
    said = modalign(*words)
    assert said.code == 0, said.err
    aligned, tuned = ({part["name"]: part for part in phase["parts"]} for phase in read("p"))
    assert aligned["llm"]["weights"] == pytest.approx(2 * aligned["llm"]["parameters"], rel=0.01)
    assert tuned["llm"]["gradients"] == 4 * tuned["llm"]["parameters"]
    said = modalign(*words, "model.language_model.lora={rank: 2}", "stages.instruct.train=[llm.lora]")
    assert said.code == 0, said.err
    aligned, tuned = ({part["name"]: part for part in phase["parts"]} for phase in read("p"))
    assert "llm.lora" not in aligned
    assert (tuned["llm"]["trains"], tuned["llm.lora"]["trains"]) == (False, True)
    assert tuned["llm.lora"]["gradients"] == 4 * tuned["llm.lora"]["parameters"] > 0


def read(name):
    return json.loads(Path(name).read_text())["phases"]


def test_what_does_not_fit_into_a_device_is_told(modalign, empty):
    said = modalign("plan", *SHORT, "plan.hardware.memory_gb=0.01")
    assert "DOES NOT FIT 0.01 GB" in said.out
    assert " fits" in modalign("plan", *SHORT, "plan.hardware.memory_gb=100").out


def test_the_runs_alone_are_listed_without_heavy_libraries(modalign, empty, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "modalign.stages.forecast.plan", None)
    said = modalign("plan", *SHORT, "--runs")
    assert said.code == 0, said.err
    assert "align-audio-" in said.out
    assert "FLOP" not in said.out


def test_finished_runs_cost_nothing_unless_all_are_asked_for(modalign, tiny_runs):
    words = ("plan", "stage=align", "modality=image", *tiny_runs.settings)
    assert "FLOP" not in modalign(*words).out
    assert "all are finished" in modalign(*words).out
    assert modalign(*words, "--all").out.count("in all") >= 3


def test_a_model_without_weights_and_recipes_without_data_are_planned_and_named(modalign, empty):
    (empty / "own" / "model").mkdir(parents=True)
    (empty / "own" / "model" / "large.yaml").write_text(LARGE)
    (empty / "recipes").mkdir()
    (empty / "recipes" / "photos.yaml").write_text(
        "name: photos\ntitle: photos\nsource: somewhere\nlicence: MIT\ntask: caption\nmedia: {image: jpg}\n"
        "splits: {train: 123456}\nfolder: photos\n"
    )
    words = ("model=large", "debug=tiny", "stage=align", "modality=image", "paths.recipes=[recipes]",
             "+data.align.image=[photos]", "data.text_loss=null", "--config-dir", "own")  # fmt: skip
    said = modalign("plan", *words, "--json", "plan.json")
    assert said.code == 0, said.err
    plan = json.loads((empty / "plan.json").read_text())
    (phase,) = plan["phases"]
    assert phase["run"] == "align-image-????????"
    llm = next(part for part in phase["parts"] if part["name"] == "llm")
    assert llm["parameters"] == 6_738_415_616
    assert llm["weights"] >= 2 * llm["parameters"]
    (recipe,) = phase["recipes"]
    assert (recipe["size"], recipe["words"], recipe["shards"]) == (123456, "assumed", None)
    assert recipe["supervised_tokens"] == pytest.approx(33, abs=2)
    told = "\n".join(plan["missing"])
    assert "recipe photos: nothing at data/photos" in told
    assert "language model somebody/large-7b" in told
    assert all(line in said.out for line in plan["missing"])


def test_a_held_out_split_that_was_not_made_is_planned_and_named(modalign, empty):
    (empty / "recipes").mkdir()
    (empty / "recipes" / "photos.yaml").write_text(
        "name: photos\ntitle: photos\nsource: somewhere\nlicence: MIT\ntask: caption\nmedia: {image: png}\n"
        "splits: {train: 16, val: 4, test: 4}\nfolder: photos\nmake: {_target_: modalign.data.sources.FolderSource}\n"
    )
    with ShardWriter(empty / "data" / "photos" / "train") as writer:
        for number in range(16):
            picture = encode_png(np.full((16, 16, 3), number, np.uint8))
            writer.write(f"s{number:02d}", {"png": picture, "json": b'{"caption": "a grey"}'})
    words = ("debug=tiny", "stage=align", "modality=image", "paths.recipes=[recipes]", "+data.align.image=[photos]")
    for every, splits in ((0, ["test"]), (10, ["val", "test"])):
        said = modalign("plan", *words, f"evaluation.validation_every={every}", "--json", "plan.json")
        assert said.code == 0, said.err
        told = [line for line in json.loads((empty / "plan.json").read_text())["missing"] if "photos" in line]
        assert told == [
            f"recipe photos: nothing at data/photos/{split}, on which it is validated or measured: "
            f"run `modalign shards photos`, or leave '{split}' out of the recipe's splits"
            for split in splits
        ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--hardware", "a10"], "unknown hardware 'a10': did you mean 'a100'?"),
        (["--devices", "3"], "does not divide among 3 processes"),
        (["--devices", "two"], "invalid int value: 'two'"),
        (["--utilisation", "1.5"], "plan.hardware.utilisation: should be less than or equal to 1"),
        (["--peak-tflops", "0"], "should be greater than 0"),
        (["plan.hardware.peak=3"], "unknown setting 'peak'"),
        (["--json", "nowhere/plan.json"], "--json nowhere/plan.json: No such file or directory"),
        (["modality=sonar"], "unknown modality 'sonar'"),
    ],
)
def test_what_cannot_be_planned_is_told_in_one_line(modalign, empty, words, message):
    assert message in modalign("plan", *SHORT, *words).error
