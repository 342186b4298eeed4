"""Files are replaced whole or kept, and the system's errors become one line."""

import errno
import hashlib
import os

import pytest

from modalign.data.disk import disk_error, read_bytes, sha256_file, write_atomic
from modalign.errors import ModalignError


def test_a_file_is_replaced_whole(tmp_path):
    write_atomic(tmp_path / "new" / "file", b"first")
    write_atomic(tmp_path / "new" / "file", b"second")
    assert (tmp_path / "new" / "file").read_bytes() == b"second"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]


def test_a_write_that_fails_keeps_the_earlier_file(tmp_path, monkeypatch):
    write_atomic(tmp_path / "file", b"earlier")

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ModalignError, match="the disk is full"):
        write_atomic(tmp_path / "file", b"later")
    assert (tmp_path / "file").read_bytes() == b"earlier"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENOSPC, "cannot write /x: the disk is full; free some space"),
        (errno.EDQUOT, "quota is used up"),
        (errno.EACCES, "Permission denied; choose a folder that you may write"),
        (errno.EROFS, "choose a folder that you may write"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_errors_of_the_disk_are_one_line(tmp_path, number, told):
    assert told in str(disk_error(OSError(number, os.strerror(number)), "/x", "write"))


def test_missing_files_are_told(tmp_path):
    for function in (read_bytes, sha256_file):
        with pytest.raises(ModalignError, match=r"cannot read .*none: No such file"):
            function(tmp_path / "none")


def test_digests_are_sha256(tmp_path):
    data = os.urandom(3_000_000)
    (tmp_path / "file").write_bytes(data)
    assert sha256_file(tmp_path / "file") == hashlib.sha256(data).hexdigest()
