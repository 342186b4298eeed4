"""The manifest of a run."""

import json

import pytest

from modalign.errors import ModalignError
from modalign.runs.manifest import Manifest, find_manifest, read_manifest, write_manifest


@pytest.fixture
def manifest():
    return Manifest(
        name="align-audio-01234567",
        identity="0" * 64,
        stage="align",
        modalities={"new": ["audio"], "seen": ["image"]},
        command=["train.py", "stage=align", "modality=audio"],
        parts=[{"name": "tokenizers.audio", "parameters": 7, "trains": True, "gradient": "ok", "unchanged": None}],
        holes={"world_audio": {"count": 1, "examples": [{"key": "a", "reason": "does not decode"}]}},
        seconds={"train": 1.25},
    )


def test_a_manifest_reads_back_as_it_was_written(tmp_path, manifest):
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest
    written = json.loads((tmp_path / "manifest.json").read_text())
    assert written["format"] == 1
    assert "extra" not in written


def test_tuples_paths_and_numbers_that_are_not_finite_become_plain(tmp_path, manifest):
    manifest.config = {"folder": tmp_path, "betas": (0.9, 0.95), "best": float("nan")}
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path).config == {"folder": str(tmp_path), "betas": [0.9, 0.95], "best": None}


def test_keys_of_a_later_version_are_kept(tmp_path, manifest):
    write_manifest(tmp_path, manifest)
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "carbon": 3}))
    read = read_manifest(tmp_path)
    write_manifest(tmp_path, read)
    assert json.loads(path.read_text())["carbon"] == 3


def test_a_folder_without_a_run_is_told_apart_from_a_damaged_one(tmp_path, manifest):
    assert find_manifest(tmp_path) is None
    assert find_manifest(tmp_path / "nowhere") is None
    with pytest.raises(ModalignError, match="holds no run"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text('{"name": "x"')
    with pytest.raises(ModalignError, match=r"manifest.json is damaged"):
        find_manifest(tmp_path)
    for text in ("[]", "{}", "null", '{"name": "x"}'):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(ModalignError, match=r"manifest.json is damaged"):
            find_manifest(tmp_path)


def test_a_later_format_asks_for_an_update(tmp_path, manifest):
    manifest.format = 2
    write_manifest(tmp_path, manifest)
    with pytest.raises(ModalignError, match="format 2, this version of modalign reads up to 1"):
        read_manifest(tmp_path)


def test_an_unknown_status_is_never_written(tmp_path, manifest):
    manifest.status = "done"
    with pytest.raises(ValueError, match="done"):
        write_manifest(tmp_path, manifest)
    assert find_manifest(tmp_path) is None


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["train.py", "modality=[image,video]"], "python train.py 'modality=[image,video]'"),
        (["modalign", "ablate", "x"], "modalign ablate x"),
        ([], ""),
    ],
)
def test_the_command_of_a_run_is_told_as_a_shell_takes_it(command, told):
    assert Manifest("a", "ab" * 32, "align", {}, "finished", command, {}).shell_command == told
