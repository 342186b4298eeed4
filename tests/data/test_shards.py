"""Shards are written whole or not at all, byte for byte the same, and webdataset reads them."""

import errno
import gc
import json
import os
import resource
import signal
import sys

import pytest

from modalign.data.manifest import read_manifest
from modalign.data.reader import ShardReader
from modalign.data.shards import ShardWriter
from modalign.errors import ModalignError


def test_what_is_written_is_read(tmp_path, make_split):
    reader = ShardReader(make_split(tmp_path / "train", count=20, samples_per_shard=7))
    assert len(reader) == 20
    assert [shard.samples for shard in reader.manifest.shards] == [7, 7, 6]
    for number in range(20):
        raw = reader.read(number)
        assert raw.key == f"s{number:04d}"
        assert json.loads(raw.members["json"])["caption"] == f"grey number {number}"


def test_webdataset_reads_the_same_samples(tmp_path, make_split):
    import webdataset

    folder = make_split(tmp_path / "train")
    reader = ShardReader(folder)
    urls = [str(folder / shard.name) for shard in reader.manifest.shards]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == [reader.key(i) for i in range(len(reader))]
    assert all(samples[i]["png"] == reader.read(i).members["png"] for i in range(len(reader)))


def test_the_same_samples_give_the_same_bytes(tmp_path, make_split):
    first, second = (read_manifest(make_split(tmp_path / name)) for name in ("a", "b"))
    assert first.digest == second.digest
    other = read_manifest(make_split(tmp_path / "c", count=19))
    assert other.digest != first.digest


def test_nothing_is_left_of_a_writer_that_fails(tmp_path):
    def write():
        with ShardWriter(tmp_path / "train", samples_per_shard=2) as writer:
            for number in range(5):
                writer.write(f"k{number}", {"json": b"{}"})
            raise RuntimeError("the maker broke")

    with pytest.raises(RuntimeError):
        write()
    assert list(tmp_path.iterdir()) == []


def test_a_killed_writer_leaves_no_split_and_the_next_one_clears_up(tmp_path, make_split):
    if child := os.fork():
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    else:
        with ShardWriter(tmp_path / "train", 2) as writer:
            for number in range(5):
                writer.write(f"k{number}", {"json": b"{}"})
            os.kill(os.getpid(), signal.SIGKILL)
    assert not (tmp_path / "train").exists()
    assert (tmp_path / "train.partial").is_dir()
    assert len(ShardReader(make_split(tmp_path / "train"))) == 20
    assert [path.name for path in tmp_path.iterdir()] == ["train"]


def test_a_second_writer_is_kept_out(tmp_path):
    with ShardWriter(tmp_path / "train") as writer:
        with pytest.raises(ModalignError, match=f"pid {os.getpid()}"), ShardWriter(tmp_path / "train"):
            pass
        writer.write("k", {"json": b"{}"})
    assert writer.manifest is not None
    assert writer.manifest.samples == 1


def test_a_folder_that_holds_something_is_never_written_over(tmp_path, make_split):
    folder = make_split(tmp_path / "train")
    before = read_manifest(folder).digest
    with pytest.raises(ModalignError, match="holds something already"):
        make_split(folder)
    assert read_manifest(folder).digest == before


@pytest.mark.parametrize(
    ("key", "members", "reason"),
    [
        ("a.b", {"json": b"{}"}, "no sample key"),
        ("__meta__", {"json": b"{}"}, "no sample key"),
        ("with space", {"json": b"{}"}, "no sample key"),
        ("x" * 91, {"json": b"{}"}, "no sample key"),
        ("k", {}, "no members"),
        ("k", {"JPG": b""}, "no extension"),
        ("k", {"json": "text"}, "must be bytes"),
        ("first", {"json": b"{}"}, "written twice"),
    ],
)
def test_samples_that_would_not_read_back_are_refused(tmp_path, key, members, reason):
    def write():
        with ShardWriter(tmp_path / "train") as writer:
            writer.write("first", {"json": b"{}"})
            writer.write(key, members)

    with pytest.raises(ModalignError, match=reason):
        write()


def test_no_sample_is_an_error(tmp_path):
    with pytest.raises(ModalignError, match="no sample"), ShardWriter(tmp_path / "train"):
        pass
    with pytest.raises(ModalignError, match="at least 1, not 0"):
        ShardWriter(tmp_path / "train", samples_per_shard=0)


def test_a_full_disk_is_told_in_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    """A real limit of the system (RLIMIT_FSIZE) plays the disk that fills."""
    later = []
    monkeypatch.setattr(sys, "unraisablehook", lambda told: later.append(repr(told.exc_value)))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def write():
        with ShardWriter(tmp_path / "train") as writer:
            for number in range(100):
                writer.write(f"k{number}", {"npy": bytes(10_000)})

    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(ModalignError, match=r"cannot write .*: the file is too big") as caught:
            write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    del caught
    gc.collect()
    assert later == []


def test_no_space_left_is_told_as_such(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    def write():
        with ShardWriter(tmp_path / "train") as writer:
            writer.write("k", {"json": b"{}"})
            monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(ModalignError, match="the disk is full; free some space"):
        write()


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ModalignError, match="cannot write"), ShardWriter(tmp_path / "file" / "train"):
        pass
