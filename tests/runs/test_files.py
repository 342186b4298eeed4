"""Files that are wholly there or not at all."""

import errno
import os
import shutil
import subprocess

import pytest

from modalign.errors import ModalignError
from modalign.runs.files import check_writable, make_folder, told, write_atomic


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of one megabyte, where the machine allows to mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", "size=1m", "none", disk], check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path):
    target = tmp_path / "manifest.json"
    write_atomic(target, b"first")
    write_atomic(target, b"second")
    assert target.read_bytes() == b"second"
    assert os.listdir(tmp_path) == ["manifest.json"]


def test_a_full_disk_is_one_line_and_keeps_the_earlier_file(small_disk):
    target = small_disk / "results.json"
    write_atomic(target, b"earlier")
    with pytest.raises(ModalignError, match=r"disk full while writing .*results.json .* left\).*paths.runs") as caught:
        write_atomic(target, bytes(3 << 20))
    assert "\n" not in str(caught.value)
    assert target.read_bytes() == b"earlier"
    assert os.listdir(small_disk) == ["results.json"]
    write_atomic(target, b"fits again")


def test_a_write_that_comes_short_is_continued_and_a_failed_one_leaves_no_trace(tmp_path, monkeypatch):
    target = tmp_path / "file"
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, bytes(data)[:3]))
    write_atomic(target, b"0123456789")
    assert target.read_bytes() == b"0123456789"

    def full(descriptor, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(ModalignError, match="disk full"):
        write_atomic(target, b"never")
    monkeypatch.undo()
    assert target.read_bytes() == b"0123456789"
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_below_a_regular_file_cannot_be_written_and_says_so(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for act in (make_folder, check_writable, lambda path: write_atomic(path, b"")):
        with pytest.raises(ModalignError, match=r"cannot write .*file/below: .*paths.runs") as caught:
            act(tmp_path / "file" / "below")
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes in spite of modes")
def test_a_folder_without_the_right_to_write_says_so(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ModalignError, match=r"cannot write .*permission denied"):
        check_writable(tmp_path)


def test_a_folder_on_a_read_only_disk_says_so(small_disk):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(ModalignError, match=r"cannot write .*read-only"):
        check_writable(small_disk)


def test_a_writable_folder_is_made_and_left_empty(tmp_path):
    check_writable(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_other_errors_of_the_disk_are_told_too(tmp_path):
    assert "input/output error; check the disk" in str(told(OSError(errno.EIO, os.strerror(errno.EIO)), tmp_path))
    assert "disk full" in str(told(OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), tmp_path / "gone" / "file"))
