"""Verbs that write models: convert (the released format) and ship-backbones."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from modalign.runs.checks import finished_run
from modalign.runs.lineage import lineage, load_assembled
from modalign.runs.manifest import read_manifest

RELEASED = Path(__file__).resolve().parents[1] / "parity" / "data" / "onellm_tiny.weights.safetensors"
SIZES = RELEASED.with_name("onellm_tiny.json")


def test_a_released_checkpoint_becomes_parts_and_returns_without_a_changed_bit(modalign, tmp_path):
    said = modalign("convert", RELEASED, "--out", tmp_path / "ours", "--sizes", SIZES)
    assert said.code == 0, said.err
    assert "projectors.upm.experts.2" in said.out
    assert (tmp_path / "ours" / "tokenizers.audio.safetensors").is_file()
    back = modalign("convert", tmp_path / "ours", "--to-published", tmp_path / "back.safetensors")
    assert back.code == 0, back.err
    before, after = load_file(RELEASED), load_file(tmp_path / "back.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_what_cannot_be_converted_is_told_in_one_line(modalign, tmp_path):
    (tmp_path / "broken.safetensors").write_bytes(RELEASED.read_bytes()[:1000])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    refused = {
        (RELEASED,): "say what to write",
        (RELEASED, "--out", tmp_path / "full"): "holds something already",
        (RELEASED, "--to-published", tmp_path / "x.pth"): "takes one folder",
        (tmp_path / "none.pth", "--out", tmp_path / "a"): "there is no checkpoint file",
        (tmp_path / "broken.safetensors", "--out", tmp_path / "a"): "cannot read",
        (RELEASED, "--out", tmp_path / "a", "--sizes", RELEASED): "cannot be read as JSON",
        (tmp_path / "full", "--to-published", tmp_path / "x.pth"): "is no converted checkpoint",
    }
    for words, message in refused.items():
        assert message in modalign("convert", *words).error


@pytest.fixture(scope="module")
def shipped(tiny_runs, tmp_path_factory):
    """Backbones of debug size, shipped twice into one folder: the second call replaces the first."""
    from modalign.cli.main import main

    folder = tmp_path_factory.mktemp("shipped")
    words = ["ship-backbones", "--out", str(folder), *(s for s in tiny_runs.settings if "runs" not in s)]
    for steps in (1, 2):
        assert main([*words, f"stages.pretrain_text.steps={steps}", "stages.pretrain_contrast.steps=1"]) == 0
    return folder


def test_shipped_backbones_are_finished_runs_of_a_few_files(shipped):
    folders = sorted(path.parent for path in shipped.glob("*/manifest.json"))
    assert [read_manifest(folder).stage for folder in folders] == ["pretrain_contrast", "pretrain_text"]
    contrast, text = folders
    for folder in folders:
        manifest = read_manifest(folder)
        assert manifest.name == folder.name
        assert finished_run(folder, manifest.identity) is not None
        assert not list(folder.rglob("state.pt"))
        assert not (folder / "report.html").exists()
    assert (text / "tokenizer" / "tokenizer.json").is_file()
    assert [ancestor.path.resolve() for ancestor in lineage(contrast, full=True)] == [text, contrast]
    assert {name.split(".")[0] for name in load_assembled(contrast)} == {"llm", "encoders", "tokenizers"}


def test_shipped_backbones_name_no_place_of_this_machine(shipped, tiny_runs):
    for file in shipped.glob("*/manifest.json"):
        text = file.read_text()
        assert str(tiny_runs.data) not in text
        assert "/tmp" not in text
        assert '"/' not in text


def test_only_a_model_with_backbones_of_its_own_is_shipped(modalign, tmp_path):
    said = modalign("ship-backbones", "--out", tmp_path, "model.backbones=[]")
    assert "has no backbones of its own" in said.error
    (tmp_path / "file").touch()
    assert "cannot write" in modalign("ship-backbones", "--out", tmp_path / "file").error
