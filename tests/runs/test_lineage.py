"""From a run back through its parents."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from modalign.errors import ModalignError
from modalign.runs.checkpoint import save_checkpoint
from modalign.runs.lineage import (
    assemble,
    checkpoint_entry,
    lineage,
    load_assembled,
    parent_entry,
    run_checkpoint,
)
from modalign.runs.manifest import Manifest, read_manifest, write_manifest


def make_run(folder, values, parent=None, status="finished"):
    """A run whose checkpoint holds one tensor a part, of the given value."""
    folder.mkdir(parents=True)
    tensors = {part: {f"{part}.w": torch.full((4,), float(value))} for part, value in values.items()}
    path = save_checkpoint(folder / "checkpoints", 10, tensors, {"step": 10}, final=True)
    write_manifest(
        folder,
        Manifest(
            name=folder.name,
            identity="a" * 64,
            stage="align",
            status=status,
            command=["train.py", "stage=align"],
            parent=None if parent is None else parent_entry(folder, parent),
            checkpoint=checkpoint_entry(folder, path) if status == "finished" else None,
        ),
    )
    return folder


@pytest.fixture
def runs(tmp_path):
    """Image, then audio on it, then instruct on that."""
    root = tmp_path / "runs"
    image = make_run(root / "align-image-1", {"tokenizers.visual": 1, "projectors.upm.experts.0": 1})
    audio = make_run(root / "align-audio-2", {"tokenizers.audio": 2, "projectors.upm.experts.0": 2}, image)
    make_run(root / "instruct-3", {"llm": 3}, audio)
    return root


def change(folder, **changes):
    manifest = read_manifest(folder)
    for key, value in changes.items():
        setattr(manifest, key, value)
    write_manifest(folder, manifest)


def test_a_lineage_goes_from_the_eldest_to_the_run(runs):
    chain = lineage(runs / "instruct-3", full=True)
    assert [ancestor.manifest.name for ancestor in chain] == ["align-image-1", "align-audio-2", "instruct-3"]
    assert all(ancestor.checkpoint.is_dir() for ancestor in chain)


def test_each_part_comes_from_the_latest_run_that_trained_it(runs):
    holders = {part: path.parent.parent.name for part, path in assemble(runs / "instruct-3").items()}
    assert holders == {
        "tokenizers.visual": "align-image-1",
        "projectors.upm.experts.0": "align-audio-2",
        "tokenizers.audio": "align-audio-2",
        "llm": "instruct-3",
    }
    tensors = load_assembled(runs / "instruct-3")
    assert {name: float(tensor[0]) for name, tensor in tensors.items()} == {
        "tokenizers.visual.w": 1,
        "projectors.upm.experts.0.w": 2,
        "tokenizers.audio.w": 2,
        "llm.w": 3,
    }


def test_a_parent_that_is_gone_is_named_with_what_to_do(runs):
    shutil.rmtree(runs / "align-audio-2")
    with pytest.raises(
        ModalignError, match=r"parent gone: run instruct-3 was trained on align-audio-2.*which trains both"
    ):
        lineage(runs / "instruct-3")


def test_a_grandparent_that_is_gone_is_noticed_too(runs):
    shutil.rmtree(runs / "align-image-1")
    with pytest.raises(ModalignError, match=r"parent gone: run align-audio-2 was trained on align-image-1"):
        assemble(runs / "instruct-3")


def test_a_parent_whose_checkpoint_was_deleted_is_named(runs):
    shutil.rmtree(runs / "align-audio-2" / "checkpoints")
    with pytest.raises(ModalignError, match=r"checkpoint of run align-audio-2 .* was deleted") as caught:
        lineage(runs / "instruct-3")
    assert "\n" not in str(caught.value)


def test_a_parent_that_was_trained_again_to_other_weights_is_noticed_by_digest(runs):
    shutil.rmtree(runs / "align-audio-2")
    make_run(runs / "align-audio-2", {"tokenizers.audio": 2.5, "projectors.upm.experts.0": 2}, runs / "align-image-1")
    with pytest.raises(ModalignError, match=r"parent altered: run instruct-3 was trained on align-audio-2 with digest"):
        lineage(runs / "instruct-3")


def test_a_parent_that_was_trained_again_to_the_same_weights_is_the_same_parent(runs):
    shutil.rmtree(runs / "align-audio-2")
    make_run(runs / "align-audio-2", {"tokenizers.audio": 2, "projectors.upm.experts.0": 2}, runs / "align-image-1")
    assert len(lineage(runs / "instruct-3", full=True)) == 3


def test_a_damaged_parent_is_noticed_at_once_when_cut_and_when_read_if_a_bit_flipped(runs):
    file = runs / "align-image-1" / "checkpoints" / "step-00000010" / "tokenizers.visual.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))
    lineage(runs / "instruct-3")
    for act in (load_assembled, lambda run: lineage(run, full=True)):
        with pytest.raises(ModalignError, match=r"tokenizers.visual.safetensors was altered"):
            act(runs / "instruct-3")
    file.write_bytes(bytes(data[:-1]))
    with pytest.raises(ModalignError, match=r"align-image-1.* is damaged: tokenizers.visual.safetensors holds"):
        lineage(runs / "instruct-3")


def test_runs_that_were_moved_together_still_find_each_other(runs, tmp_path):
    moved = tmp_path / "elsewhere" / "kept"
    shutil.copytree(runs, moved)
    shutil.rmtree(runs)
    assert len(lineage(moved / "instruct-3", full=True)) == 3


def test_a_parent_elsewhere_is_found_beside_after_a_move(tmp_path):
    image = make_run(tmp_path / "shared" / "align-image-1", {"a": 1})
    audio = make_run(tmp_path / "mine" / "align-audio-2", {"b": 2}, image)
    shutil.move(image, tmp_path / "mine" / "align-image-1")
    assert [ancestor.path.parent.name for ancestor in lineage(audio)] == ["mine", "mine"]


def test_a_run_that_is_not_finished_cannot_be_a_parent(tmp_path):
    image = make_run(tmp_path / "align-image-1", {"a": 1}, status="interrupted")
    with pytest.raises(ModalignError, match=r"align-image-1 .* is interrupted.*finish it first, with `train.py stage"):
        parent_entry(tmp_path / "child", image)


def test_an_unfinished_run_is_assembled_from_its_newest_checkpoint(tmp_path):
    run = make_run(tmp_path / "align-image-1", {"a": 1}, status="running")
    assert assemble(run) == {"a": run_checkpoint(run)}
    shutil.rmtree(run / "checkpoints")
    assert assemble(run) == {}
    assert load_assembled(run) == {}


def test_a_manifest_that_names_the_run_itself_as_parent_ends(runs):
    run = runs / "align-image-1"
    entry = parent_entry(run, run)
    change(run, parent=entry)
    with pytest.raises(ModalignError, match="its own ancestor"):
        lineage(run)


def test_what_is_no_run_is_told(tmp_path):
    with pytest.raises(ModalignError, match="holds no run"):
        lineage(tmp_path)


def test_paths_in_manifests_are_relative(runs):
    written = json.loads((runs / "instruct-3" / "manifest.json").read_text())
    assert written["parent"]["path"] == "../align-audio-2"
    assert not Path(written["checkpoint"]["path"]).is_absolute()


def test_a_parent_that_ships_with_the_package_is_found_wherever_the_run_was_moved(runs, tmp_path, monkeypatch):
    from modalign.runs import lineage as module

    shutil.move(runs / "align-image-1", tmp_path / "shipped" / "align-image-1")
    with pytest.raises(ModalignError, match="parent gone"):
        lineage(runs / "instruct-3")
    monkeypatch.setattr(module, "SHIPPED", tmp_path / "shipped")
    shutil.move(runs, tmp_path / "elsewhere")
    chain = lineage(tmp_path / "elsewhere" / "instruct-3")
    assert chain[0].path == tmp_path / "shipped" / "align-image-1"
