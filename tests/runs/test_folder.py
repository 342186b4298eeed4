"""The folder of a run, and the lock on it."""

import fcntl
import os
import signal
import subprocess
import sys
import time

import pytest

from modalign.errors import ModalignError
from modalign.runs.folder import FolderTaken, RunFolder, place_run
from modalign.runs.manifest import Manifest, write_manifest

ID, OTHER = "a" * 64, "a" * 8 + "b" * 56
NAME = f"align-audio-{ID[:8]}"

HOLD = """
import os, sys, time
from pathlib import Path
from modalign.runs.folder import RunFolder
with RunFolder(Path(sys.argv[1])).lock():
    if os.fork() == 0:          # a loader worker that outlives its parent
        time.sleep(60)
        os._exit(0)
    print("held", flush=True)
    time.sleep(60)
"""


def begin(folder, identity=ID, status="running"):
    folder.mkdir(parents=True, exist_ok=True)
    write_manifest(folder, Manifest(name=folder.name, identity=identity, stage="align", status=status))


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of `tmp_path / run`."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "run"], stdout=subprocess.PIPE, text=True,
                               start_new_session=True)  # fmt: skip
    assert process.stdout.readline().strip() == "held"
    yield process
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


def test_a_second_writer_is_refused_and_told_who_holds_the_folder(tmp_path, holder):
    run = RunFolder(tmp_path / "run")
    assert run.is_locked()
    told = rf"being written by process {holder.pid} on .*fresh=true"
    with pytest.raises(ModalignError, match=told) as caught, run.lock():
        pass
    assert "\n" not in str(caught.value)


def test_the_lock_goes_with_a_killed_process_although_its_worker_lives_on(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    deadline = time.monotonic() + 5
    run = RunFolder(tmp_path / "run")
    while run.is_locked() and time.monotonic() < deadline:
        time.sleep(0.01)
    with run.lock():
        assert f"process {os.getpid()} " in run.lock_file.read_text()


def test_a_second_lock_in_the_same_process_is_refused_too_and_keeps_the_first(tmp_path):
    run = RunFolder(tmp_path / "run")
    with run.lock():
        assert run.is_locked()
        with pytest.raises(ModalignError, match=rf"this process \({os.getpid()}\)"), RunFolder(run.path).lock():
            pass
        code = "import sys; from modalign.runs.folder import RunFolder; sys.exit(RunFolder(sys.argv[1]).is_locked())"
        assert subprocess.run([sys.executable, "-c", code, run.path], check=False).returncode == 1
    assert not run.is_locked()
    with run.lock():
        pass


def test_taking_the_lock_sweeps_what_a_killed_writer_left(tmp_path):
    run = RunFolder(tmp_path / "run").prepare()
    (run.path / ".manifest.json.123.tmp").write_text("half")
    (run.path / "notes.txt").write_text("kept")
    with run.lock():
        assert sorted(path.name for path in run.path.iterdir()) == ["lock", "notes.txt"]


def test_a_folder_that_cannot_be_written_fails_before_anything_begins(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ModalignError, match="cannot write"), RunFolder(tmp_path / "file" / "run").lock():
        pass


def test_a_new_run_gets_its_name_and_nothing_is_made(tmp_path):
    run = place_run(tmp_path / "runs", NAME, ID)
    assert run.path == tmp_path / "runs" / NAME
    assert run.status() is None
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("status", ["running", "interrupted", "failed", "finished"])
def test_the_same_command_comes_back_to_its_folder(tmp_path, status):
    begin(tmp_path / NAME, status=status)
    run = place_run(tmp_path, NAME, ID)
    assert run.path == tmp_path / NAME
    assert run.status() == status


def test_fresh_starts_beside_and_becomes_the_one_to_come_back_to(tmp_path):
    begin(tmp_path / NAME, status="finished")
    assert place_run(tmp_path, NAME, ID, fresh=True).name == f"{NAME}-2"
    begin(tmp_path / f"{NAME}-2", status="finished")
    assert place_run(tmp_path, NAME, ID, fresh=True).name == f"{NAME}-3"
    assert place_run(tmp_path, NAME, ID).name == f"{NAME}-2"


def test_a_fresh_run_that_was_stopped_is_continued_by_the_same_command(tmp_path):
    begin(tmp_path / NAME, status="finished")
    begin(tmp_path / f"{NAME}-2", status="interrupted")
    assert place_run(tmp_path, NAME, ID, fresh=True).name == f"{NAME}-2"


def test_a_fresh_run_that_is_at_work_is_left_alone(tmp_path):
    begin(tmp_path / NAME, status="finished")
    begin(tmp_path / f"{NAME}-2")
    with RunFolder(tmp_path / f"{NAME}-2").lock():
        assert place_run(tmp_path, NAME, ID, fresh=True).name == f"{NAME}-3"


def test_fresh_leaves_an_unfinished_first_run_where_it_is(tmp_path):
    begin(tmp_path / NAME, status="interrupted")
    assert place_run(tmp_path, NAME, ID, fresh=True).name == f"{NAME}-2"


def test_another_identity_with_the_same_first_digits_is_never_touched(tmp_path):
    begin(tmp_path / NAME, identity=OTHER, status="finished")
    assert place_run(tmp_path, NAME, ID).name == f"{NAME}-2"
    begin(tmp_path / f"{NAME}-2")
    assert place_run(tmp_path, NAME, ID).name == f"{NAME}-2"
    assert place_run(tmp_path, NAME, OTHER).name == NAME


def test_a_folder_that_was_killed_before_its_manifest_is_used(tmp_path):
    (tmp_path / NAME).mkdir()
    assert place_run(tmp_path, NAME, ID).path == tmp_path / NAME


def test_a_damaged_manifest_is_an_error_and_fresh_goes_round_it(tmp_path):
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "manifest.json").write_text("{")
    with pytest.raises(ModalignError, match=r"damaged.*fresh=true"):
        place_run(tmp_path, NAME, ID)
    assert place_run(tmp_path, NAME, ID, fresh=True).name == f"{NAME}-2"


def test_other_runs_that_begin_alike_are_no_copies(tmp_path):
    begin(tmp_path / f"{NAME}-2x", status="finished")
    begin(tmp_path / f"{NAME}-1", status="finished")
    assert place_run(tmp_path, NAME, ID).name == NAME


def test_an_error_before_anything_was_written_leaves_no_folder(tmp_path):
    folder = RunFolder(tmp_path / "runs" / "align-audio-12345678")

    def fail(*written):
        with folder.lock():
            for name in written:
                (folder.path / name).write_text("{}")
            raise ValueError("torn")

    with pytest.raises(ValueError, match="torn"):
        fail()
    assert not folder.path.exists()
    folder.path.mkdir()
    with pytest.raises(ValueError, match="torn"):
        fail()
    assert folder.path.exists()  # it was there before
    with pytest.raises(ValueError, match="torn"):
        fail("manifest.json")
    assert {path.name for path in folder.path.iterdir()} == {"manifest.json", folder.lock_file.name}
    with folder.lock():
        pass


def test_a_lock_file_that_its_holder_removed_meanwhile_is_no_lock(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path / "run")
    take = fcntl.lockf

    def late(descriptor, *arguments):
        folder.lock_file.unlink(missing_ok=True)
        take(descriptor, *arguments)

    monkeypatch.setattr(fcntl, "lockf", late)
    with pytest.raises(FolderTaken, match="has just given up"), folder.lock():
        pass
