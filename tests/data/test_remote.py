"""Shards behind URLs: the same samples as from a disk, kept in a bounded cache, and failures told in one line."""

import json
import multiprocessing
import os
import pickle

import fsspec
import pytest

from modalign.data import tar_bytes
from modalign.data.cache import DiskCache
from modalign.data.index import index_folder
from modalign.data.manifest import _parsed
from modalign.data.reader import ShardReader
from modalign.data.remote import RemotePath, location
from modalign.data.verify import verify_folder
from modalign.errors import BadSample, ModalignError


@pytest.fixture
def split(tmp_path, make_split):
    """Twenty samples in three shards on a disk."""
    return make_split(tmp_path / "disk" / "train")


@pytest.fixture
def stored(split):
    """The same in fsspec's memory, as an object store would hold it."""
    memory = fsspec.filesystem("memory")
    memory.put(str(split), "/bucket/train", recursive=True)
    tar_bytes._MEMORY.__init__(tar_bytes._MEMORY_BYTES, len, newest_stays=True)
    yield "memory://bucket/train"
    memory.rm("/bucket", recursive=True)


@pytest.fixture
def reads(monkeypatch):
    """Every range that is fetched."""
    seen, read = [], RemotePath.read_range

    def noted(self, start, size):
        seen.append((self.name, start, size))
        return read(self, start, size)

    monkeypatch.setattr(RemotePath, "read_range", noted)
    return seen


def everything(reader):
    return [reader.read(i) for i in range(len(reader))]


def test_a_url_gives_the_samples_of_the_disk(split, stored, tmp_path):
    expected = everything(ShardReader(split))
    for url in (stored, f"file://{split}"):
        for piece_bytes, cache in (
            (700, None),
            (700, DiskCache(tmp_path / "c", 10**8)),
            (0, DiskCache(tmp_path / "c", 10**8)),
        ):
            reader = ShardReader(url, cache=cache, piece_bytes=piece_bytes)
            assert everything(reader) == expected
            assert reader.digest == ShardReader(split).digest
            assert pickle.loads(pickle.dumps(reader)).read(3) == expected[3]


def test_a_url_to_foreign_tars_may_stand_in_a_manifest(split, stored, tmp_path):
    index_folder(split, tmp_path / "index", again=True)
    content = json.loads((tmp_path / "index" / "manifest.json").read_text())
    (tmp_path / "index" / "manifest.json").write_text(json.dumps(content | {"tars": stored}))
    assert everything(ShardReader(tmp_path / "index")) == everything(ShardReader(split))


def test_a_piece_is_fetched_once_and_only_what_is_needed_of_a_shard(stored, reads, tmp_path):
    cache = DiskCache(tmp_path / "cache", 10**8)
    reader = ShardReader(stored, cache=cache, piece_bytes=4096)
    sample = reader.read(9, ["png"])
    first = [read for read in reads if read[0].endswith(".tar")]
    assert len(first) == 1
    assert first[0][1] % 4096 == 0
    assert first[0][2] <= 4096
    again = ShardReader(stored, cache=DiskCache(tmp_path / "cache", 10**8), piece_bytes=4096)
    assert again.read(9, ["png"]) == sample
    assert len(reads) == len(first)


def test_the_cache_stays_below_its_bound_and_the_least_recently_used_goes_first(tmp_path):
    cache, fetched = DiskCache(tmp_path, 10_000), []

    def get(name, size=1000):
        descriptor = cache.open(name, size, lambda file: (fetched.append(name), file.write(b"x" * size)))
        os.close(descriptor)
        os.utime(tmp_path / name, ns=(len(fetched) * 10**9 + turn, len(fetched) * 10**9 + turn))

    def size():
        return sum(path.stat().st_size for path in tmp_path.iterdir() if path.is_file() and path.name[0] != ".")

    for turn in range(40):
        get(f"piece-{turn}")
        get("often")
        assert size() <= 10_000
    assert fetched.count("often") == 1
    assert "piece-39" in os.listdir(tmp_path)
    assert "piece-3" not in os.listdir(tmp_path)
    with pytest.raises(ModalignError, match="cannot hold one piece"):
        get("big", 20_000)


def test_a_damaged_or_cut_piece_of_the_cache_is_fetched_anew(split, stored, tmp_path):
    cache = DiskCache(tmp_path / "cache", 10**8)
    expected = everything(ShardReader(split))
    assert everything(ShardReader(stored, cache=cache, piece_bytes=2048)) == expected
    for number, path in enumerate(sorted((tmp_path / "cache").glob("*-2048-*"))):
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2] if number % 2 else bytes([byte ^ 1 for byte in data]))
    assert everything(ShardReader(stored, cache=cache, piece_bytes=2048)) == expected


def test_whole_shards_are_checked_by_their_digest(split, stored, tmp_path):
    memory = fsspec.filesystem("memory")
    data = bytearray((split / "shard-000001.tar").read_bytes())
    data[3000] ^= 1
    memory.pipe("/bucket/train/shard-000001.tar", bytes(data))
    reader = ShardReader(stored, cache=DiskCache(tmp_path / "cache", 10**8), piece_bytes=0)
    assert reader.read(0).key == "s0000"
    with pytest.raises(ModalignError, match=r"shard-000001.tar is not what its manifest says \(SHA-256 differs\)"):
        reader.read(8)
    memory.pipe("/bucket/train/shard-000001.tar", (split / "shard-000001.tar").read_bytes())
    assert reader.read(8) == ShardReader(split).read(8)
    with pytest.raises(ModalignError, match=r"piece_mb=0 keeps whole shards: set data.shard_cache"):
        ShardReader(stored, piece_bytes=0).read(0)


def test_damage_in_the_store_is_a_bad_sample_and_the_count_holds(split, stored):
    memory = fsspec.filesystem("memory")
    place = json.loads((split / "shard-000001.index.json").read_text())["samples"][3][1]["png"][0]
    data = bytearray((split / "shard-000001.tar").read_bytes())
    data[place + 20] ^= 1
    memory.pipe("/bucket/train/shard-000001.tar", bytes(data))
    reader, bad = ShardReader(stored, piece_bytes=2048), []
    for i in range(len(reader)):
        try:
            reader.read(i)
        except BadSample as error:
            bad.append(error.key)
    assert bad == ["s0010"]


def test_a_store_that_fails_in_passing_is_asked_again(split, stored, monkeypatch):
    monkeypatch.setattr("modalign.data.remote._WAIT_S", 0.0)
    memory, failures = type(fsspec.filesystem("memory")), [OSError("connection reset"), TimeoutError("slow")]
    cat = memory.cat_file

    def flaky(self, path, start=None, end=None, **more):
        if failures and path.endswith(".tar"):
            raise failures.pop()
        return cat(self, path, start=start, end=end, **more)

    monkeypatch.setattr(memory, "cat_file", flaky)
    assert ShardReader(stored).read(0) == ShardReader(split).read(0)
    assert not failures

    def refused(self, path, **more):
        raise OSError("host is down\nsecond line")

    monkeypatch.setattr(memory, "cat_file", refused)
    _parsed.cache_clear()
    with pytest.raises(ModalignError, match=r"cannot read memory://bucket/train/manifest.json: host is down$"):
        ShardReader(stored)


def test_what_is_wrong_with_a_place_is_told_in_one_line(split, stored, tmp_path):
    memory = fsspec.filesystem("memory")
    for place, reason in (
        ("memory://bucket/none", "no data at memory://bucket/none: the folder does not exist"),
        ("pipe://bucket", "'pipe://bucket' is refused"),
        ("filecache::memory://bucket", "is refused"),
        ("abfs://container/x", "needs another package|cannot look for"),
    ):
        with pytest.raises(ModalignError, match=reason) as told:
            ShardReader(place)
        assert "\n" not in str(told.value)
    with pytest.raises(ModalignError, match="verify reads every byte, which is for a disk"):
        verify_folder(stored)
    memory.rm("/bucket/train/shard-000002.tar")
    with pytest.raises(ModalignError, match=r"shard memory://bucket/train/shard-000002.tar is gone"):
        ShardReader(stored)
    memory.pipe("/bucket/train/shard-000002.tar", b"short")
    with pytest.raises(ModalignError, match=r"shard-000002.tar is truncated: 5 bytes"):
        ShardReader(stored)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ModalignError, match="cannot write"):
        DiskCache(tmp_path / "file" / "cache", 10**6)


def read_all(url, folder, fetched, place):
    """One process of several on a machine: reads everything through the shared cache; says what it fetched."""
    reads, read = [], RemotePath.read_range

    def noted(self, start, size):
        reads.append((self.name, start))
        return read(self, start, size)

    RemotePath.read_range = noted
    reader = ShardReader(url, cache=DiskCache(folder, 10**8), piece_bytes=2048)
    keys = [reader.read(i).key for i in range(len(reader))]
    fetched[place] = (keys, reads)


def test_processes_that_share_a_cache_fetch_each_piece_once(split, tmp_path):
    context = multiprocessing.get_context("fork")
    with context.Manager() as manager:
        fetched = manager.dict()
        processes = [
            context.Process(target=read_all, args=(f"file://{split}", tmp_path / "cache", fetched, n)) for n in range(3)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        results = dict(fetched)
    assert len(results) == 3
    assert {tuple(keys) for keys, _ in results.values()} == {tuple(f"s{i:04d}" for i in range(20))}
    every = [read for _, reads in results.values() for read in reads]
    assert len(every) == len(set(every))


def test_a_place_joins_and_names_itself_like_a_path(tmp_path):
    place = location("s3://bucket/data/")
    assert str(place / "train" / "a.tar") == "s3://bucket/data/train/a.tar"
    assert (place / "train").name == "train"
    assert (place / "train").parent == place
    assert location(str(tmp_path)) == tmp_path
    assert location(tmp_path) is tmp_path
