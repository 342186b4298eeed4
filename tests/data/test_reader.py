"""Random access: damage is noticed at opening or at the read, and reads plus bad samples make the manifest's count."""

import json
import os
import pickle

import pytest

from modalign.data.manifest import MANIFEST_NAME
from modalign.data.reader import ShardReader
from modalign.errors import BadSample, ModalignError


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(bytes(data))


def place_of(folder, shard, row, extension):
    index = json.loads((folder / shard.replace(".tar", ".index.json")).read_text())
    return index["samples"][row][1][extension]


def test_only_the_members_asked_for_are_read(tmp_path, make_split):
    reader = ShardReader(make_split(tmp_path / "train"))
    assert set(reader.read(3, ["json"]).members) == {"json"}
    assert set(reader.read(3, ["json", "flac"]).members) == {"json"}
    assert set(reader.read(3).members) == {"json", "png"}


def test_a_reader_travels_to_other_processes(tmp_path, make_split):
    reader = ShardReader(make_split(tmp_path / "train"))
    expected = reader.read(11)
    assert pickle.loads(pickle.dumps(reader)).read(11) == expected
    if child := os.fork():
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert reader.read(11) == expected
    else:
        os._exit(0 if reader.read(11) == expected and reader.read(1).key == "s0001" else 1)


def test_few_files_stay_open(tmp_path, make_split, monkeypatch):
    monkeypatch.setattr("modalign.data.reader._OPEN_SHARDS", 3)
    reader = ShardReader(make_split(tmp_path / "train", count=20, samples_per_shard=2))
    before = len(os.listdir("/proc/self/fd"))
    assert [reader.read(i).key for i in range(20)] == [f"s{i:04d}" for i in range(20)]
    assert len(os.listdir("/proc/self/fd")) <= before + 3
    reader.close()
    assert reader.read(0).key == "s0000"


def test_flipped_bits_make_bad_samples_and_the_count_holds(tmp_path, make_split):
    folder = make_split(tmp_path / "train")
    for row in (1, 4):
        flip(folder / "shard-000001.tar", place_of(folder, "shard-000001.tar", row, "png")[0] + 20)
    reader, read, bad = ShardReader(folder), 0, []
    for index in range(len(reader)):
        try:
            reader.read(index)
            read += 1
        except BadSample as error:
            bad.append((error.key, error.reason))
    assert read + len(bad) == reader.manifest.samples
    assert [key for key, _ in bad] == ["s0008", "s0011"]
    assert "CRC-32" in bad[0][1]


def test_a_flipped_header_bit_costs_no_sample(tmp_path, make_split):
    folder = make_split(tmp_path / "train")
    flip(folder / "shard-000000.tar", place_of(folder, "shard-000000.tar", 2, "json")[0] - 512 + 3)
    reader = ShardReader(folder)
    assert [reader.read(index).key for index in range(20)] == [f"s{index:04d}" for index in range(20)]


def test_a_truncated_tar_is_refused_at_opening(tmp_path, make_split):
    folder = make_split(tmp_path / "train")
    tar = folder / "shard-000001.tar"
    tar.write_bytes(tar.read_bytes()[:-700])
    with pytest.raises(ModalignError, match=r"shard-000001.tar is truncated: \d+ bytes, the manifest says \d+"):
        ShardReader(folder)


def test_what_is_missing_is_told_in_one_line(tmp_path, make_split):
    with pytest.raises(ModalignError, match="does not exist: run `modalign shards greys`"):
        ShardReader(tmp_path / "none", hint="run `modalign shards greys`")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModalignError, match="holds no shards"):
        ShardReader(tmp_path / "empty")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ModalignError, match="it is a file"):
        ShardReader(tmp_path / "file")
    folder = make_split(tmp_path / "train")
    (folder / "shard-000002.tar").rename(tmp_path / "shard-000002.tar")
    with pytest.raises(ModalignError, match=r"shard-000002.tar is gone: the manifest lists 6 samples"):
        ShardReader(folder)
    (folder / MANIFEST_NAME).unlink()
    with pytest.raises(ModalignError, match=r"2 tars but no manifest.json: run `modalign index"):
        ShardReader(folder)


def test_an_altered_manifest_or_index_is_noticed(tmp_path, make_split):
    folder = make_split(tmp_path / "train")
    sound = (folder / MANIFEST_NAME).read_text()
    for broken, reason in (
        (sound[: len(sound) // 2], "is damaged"),
        (sound.replace('"samples": 20', '"samples": 21'), "was altered: 21 samples, 20 in its shards"),
        (sound.replace('"format"', '"fromat"'), "is damaged"),
    ):
        (folder / MANIFEST_NAME).write_text(broken)
        with pytest.raises(ModalignError, match=reason):
            ShardReader(folder)
    (folder / MANIFEST_NAME).write_text(sound)
    flip(folder / "shard-000000.index.json", 300)
    reader = ShardReader(folder)
    with pytest.raises(ModalignError, match=r"shard-000000.index.json is not the file that manifest.json describes"):
        reader.read(0)


def test_positions_outside_are_refused(tmp_path, make_split):
    reader = ShardReader(make_split(tmp_path / "train"))
    for index in (-1, 20):
        with pytest.raises(IndexError):
            reader.read(index)
