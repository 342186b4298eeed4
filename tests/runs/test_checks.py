"""What can be told of a run at once."""

import os
import shutil
import subprocess
import sys

import pytest

import modalign
from modalign.errors import ModalignError
from modalign.runs import checks
from modalign.runs.checks import code_state, finished_run, package_versions
from modalign.runs.files import write_synced
from modalign.runs.lineage import checkpoint_entry
from modalign.runs.manifest import Manifest, write_manifest
from modalign.runs.sealed import seal_bytes, verify_checkpoint

ID = "a" * 64


@pytest.fixture
def run(tmp_path):
    """A finished run with a sealed checkpoint, made without torch."""
    checkpoint = tmp_path / "checkpoints" / "step-00000001"
    checkpoint.mkdir(parents=True)
    write_synced(checkpoint / "llm.safetensors", b"weights")
    sha256 = "9a7f0f1d2f8a2c6a0e6f3f4f5b6c7d8e9f0a1b2c3d4e5f60718293a4b5c6d7e8"
    files = {"llm.safetensors": {"sha256": sha256, "bytes": 7}}
    contents = {"format": 1, "step": 1, "final": True, "files": files, "parts": {"llm": ["llm.safetensors"]}}
    write_synced(checkpoint / "digests.json", seal_bytes(contents))
    entry = checkpoint_entry(tmp_path, checkpoint)
    write_manifest(tmp_path, Manifest("run", ID, "align", status="finished", checkpoint=entry))
    return tmp_path


def test_a_finished_run_of_this_identity_is_recognised(run):
    assert finished_run(run, ID).name == "run"


def test_another_identity_another_status_or_no_run_is_not(run, tmp_path):
    assert finished_run(run, "b" * 64) is None
    assert finished_run(tmp_path / "nowhere", ID) is None
    for status in ("running", "failed", "interrupted"):
        write_manifest(run, Manifest("run", ID, "align", status=status))
        assert finished_run(run, ID) is None


def test_a_finished_run_that_keeps_no_checkpoint_is_finished(tmp_path):
    write_manifest(tmp_path, Manifest("run", ID, "align", status="finished"))
    assert finished_run(tmp_path, ID) is not None


def test_a_finished_run_whose_checkpoint_is_gone_cut_or_another_says_so(run):
    file = run / "checkpoints" / "step-00000001" / "llm.safetensors"
    os.truncate(file, 3)
    with pytest.raises(ModalignError, match="holds 3 bytes, 7 were written"):
        finished_run(run, ID)
    file.write_bytes(b"weights")
    write_manifest(
        run,
        Manifest(
            "run", ID, "align", status="finished", checkpoint={"path": "checkpoints/step-00000001", "digest": "c" * 64}
        ),
    )
    with pytest.raises(ModalignError, match="checkpoint digest cccccccccccc, but"):
        finished_run(run, ID)
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(ModalignError, match="is gone: put it back"):
        finished_run(run, ID)


def test_what_is_told_of_a_damaged_checkpoint_leads_to_no_second_error(run):
    """That of a finished run is the last there is: with its folder alone deleted, the run would be refused again."""
    final, kept = (run / "checkpoints" / f"step-0000000{step}" for step in (1, 0))
    shutil.copytree(final, kept)
    for checkpoint in (final, kept):
        os.truncate(checkpoint / "llm.safetensors", 3)
    with pytest.raises(ModalignError, match="delete that folder"):
        verify_checkpoint(kept)
    with pytest.raises(ModalignError, match=f"put a whole copy back, or delete {run} and give the command") as caught:
        finished_run(run, ID)
    assert "\n" not in str(caught.value)
    shutil.rmtree(run)
    assert finished_run(run, ID) is None


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_revision_is_of_the_repository_that_tracks_the_package(tmp_path, monkeypatch):
    package = tmp_path / "src" / "modalign"
    package.mkdir(parents=True)
    file = package / "__init__.py"
    file.write_text("")
    monkeypatch.setattr(modalign, "__file__", str(file))
    git(tmp_path, "init", "-q")
    assert code_state() == {"version": modalign.__version__, "revision": None, "dirty": None}
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "one")
    state = code_state()
    assert len(state["revision"]) == 40
    assert state["dirty"] is False
    file.write_text("changed = True\n")
    assert code_state()["dirty"] is True


def test_without_git_there_is_a_version_and_no_revision(monkeypatch):
    monkeypatch.setattr(checks.subprocess, "run", lambda *a, **k: (_ for _ in ()).throw(FileNotFoundError()))
    assert code_state() == {"version": modalign.__version__, "revision": None, "dirty": None}


def test_versions_name_what_is_installed():
    versions = package_versions(["numpy", "no-such-package-here"])
    assert versions.keys() == {"python", "numpy"}
    assert versions["python"] == ".".join(map(str, sys.version_info[:3]))


def test_all_that_answers_at_once_does_so_without_torch():
    modules = ["runs." + name for name in (
        "checks", "files", "folder", "holes", "identity", "interrupt", "lineage", "manifest", "metrics", "record",
        "sealed", "timing",
    )]  # fmt: skip
    modules += ["curriculum." + name for name in ("order", "phases", "replay", "schedule", "shares")]
    code = "import sys\n" + "".join(f"import modalign.{name}\n" for name in modules)
    code += "print(sorted({'torch', 'numpy', 'lightning', 'hydra', 'modalign.types'} & set(sys.modules)))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
