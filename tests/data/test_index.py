"""Somebody else's tars: indexed, joined, and every damage reported; nothing is lost in silence."""

import io
import json
import random
import tarfile

import pytest

from modalign.data.index import index_folder, index_tar, split_name
from modalign.data.manifest import read_manifest
from modalign.data.reader import ShardReader
from modalign.errors import ModalignError


def write_tar(path, names, format=tarfile.USTAR_FORMAT, content=lambda name: name.encode() * 30):
    with tarfile.open(path, "w", format=format) as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            data = content(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def pairs(count):
    return [f"k{number:03d}.{ext}" for number in range(count) for ext in ("json", "jpg")]


def test_a_foreign_folder_is_read_at_random_after_indexing(tmp_path):
    write_tar(tmp_path / "b.tar", pairs(3))
    write_tar(tmp_path / "a.tar", ["deep/er/x.left.jpg", "deep/er/x.JSON"])
    manifest = index_folder(tmp_path)
    assert (manifest.samples, manifest.num_problems) == (4, 0)
    reader = ShardReader(tmp_path)
    assert reader.read(0).key == "deep/er/x"
    assert set(reader.read(0).members) == {"left.jpg", "json"}
    assert reader.read(3).members["jpg"] == b"k002.jpg" * 30


def test_files_of_one_key_that_are_not_adjacent_are_joined_and_reported(tmp_path):
    write_tar(tmp_path / "a.tar", ["k1.jpg", "k2.jpg", "k1.json", "k2.json"])
    manifest = index_folder(tmp_path)
    assert manifest.samples == 2
    assert {problem.where for problem in manifest.problems} == {"k1", "k2"}
    assert "not adjacent" in manifest.problems[0].reason
    assert set(ShardReader(tmp_path).read(0).members) == {"jpg", "json"}


def test_indices_may_lie_elsewhere_than_the_tars(tmp_path):
    (tmp_path / "foreign").mkdir()
    write_tar(tmp_path / "foreign" / "a.tar", pairs(3))
    index_folder(tmp_path / "foreign", into=tmp_path / "data" / "train")
    assert len(ShardReader(tmp_path / "data" / "train")) == 3
    assert [path.name for path in (tmp_path / "foreign").iterdir()] == ["a.tar"]


def test_an_indexed_folder_is_indexed_again_only_on_request(tmp_path):
    write_tar(tmp_path / "a.tar", pairs(3))
    index_folder(tmp_path)
    write_tar(tmp_path / "b.tar", pairs(2))
    with pytest.raises(ModalignError, match="indexed already"):
        index_folder(tmp_path)
    assert index_folder(tmp_path, again=True).samples == 5


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_all_formats_of_tar_give_what_tarfile_gives(tmp_path, format):
    long = "folder/" + "x" * 60 + "/" + "y" * 70
    names = [f"{long}1.jpg", f"{long}1.json", f"{long}2.jpg", "k.json"]
    if format != tarfile.USTAR_FORMAT:
        names.append("z" * 200 + ".json")
        names.append("größe.json")
    index = index_tar(write_tar(tmp_path / "a.tar", names, format))
    assert index.problems == []
    found = [f"{key}.{ext}" for key, members in index.samples for ext in members]
    assert found == names
    data = (tmp_path / "a.tar").read_bytes()
    for key, members in index.samples:
        for ext, (offset, size, _) in members.items():
            assert data[offset : offset + size] == f"{key}.{ext}".encode() * 30


def test_every_flipped_header_bit_is_reported(tmp_path):
    """Python's tarfile stopped silently at 98 of 100 such; here none may pass unreported."""
    names = pairs(10)
    path = write_tar(tmp_path / "a.tar", names)
    sound = path.read_bytes()
    headers = [offset - 512 for _, members in index_tar(path).samples for offset, _, _ in members.values()]
    draw = random.Random(0)
    for _ in range(100):
        broken = bytearray(sound)
        at = draw.choice(headers) + draw.randrange(512)
        broken[at] ^= 1 << draw.randrange(8)
        path.write_bytes(bytes(broken))
        index = index_tar(path)
        assert [problem for problem in index.problems if "damaged header" in problem.reason]
        # Exactly one file is lost, and the search goes on behind it.
        assert sum(len(members) for _, members in index.samples) == len(names) - 1


def test_every_truncation_is_reported(tmp_path):
    path = write_tar(tmp_path / "a.tar", pairs(5))
    sound = path.read_bytes()
    end = max(offset + size for _, members in index_tar(path).samples for offset, size, _ in members.values())
    for size in random.Random(0).sample(range(600, end), 60):
        path.write_bytes(sound[:size])
        assert index_tar(path).problems, size


def test_links_are_reported_and_never_followed(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in ("k.json", "k.jpg"):
            info = tarfile.TarInfo(name)
            tar.addfile(info, io.BytesIO())
        link = tarfile.TarInfo("secret.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(link)
    manifest = index_folder(tmp_path)
    assert manifest.samples == 1
    assert "link" in manifest.problems[0].reason


def test_names_without_extension_and_second_files_are_reported(tmp_path):
    write_tar(tmp_path / "a.tar", ["README", "k.json", "k.json", "__index__/x.json"])
    manifest = index_folder(tmp_path)
    assert manifest.samples == 1
    assert [problem.where for problem in manifest.problems] == ["README", "k.json"]


def test_keys_are_cut_as_webdataset_cuts_them():
    from webdataset.tariterators import base_plus_ext

    for name in ("a.jpg", "a.b.jpg", "x/y.z/a.tar.gz", "x.y/noext", "noext", ".hidden", "x/.h.json"):
        theirs = base_plus_ext(name)
        assert split_name(name) == (None if theirs[0] is None else theirs)


def test_folders_that_cannot_be_indexed_are_told(tmp_path):
    with pytest.raises(ModalignError, match="no folder to index"):
        index_folder(tmp_path / "nowhere")
    with pytest.raises(ModalignError, match=r"holds no \*.tar"):
        index_folder(tmp_path)
    (tmp_path / "a.tar.gz").write_bytes(b"x")
    with pytest.raises(ModalignError, match=r"a.tar.gz is compressed.*data.reader=webdataset"):
        index_folder(tmp_path)
    (tmp_path / "b.tar").write_bytes(b"this is no tar" * 100)
    with pytest.raises(ModalignError, match=r"hold not one sample .*damaged header"):
        index_folder(tmp_path)


def test_an_index_is_plain_json(tmp_path):
    write_tar(tmp_path / "a.tar", pairs(1))
    index_folder(tmp_path)
    content = json.loads((tmp_path / "a.index.json").read_text())
    key, members = content["samples"][0]
    assert key == "k000"
    assert members["json"][:2] == [512, 270]


def test_a_run_s_folder_is_told_from_a_damaged_manifest(tmp_path):
    (tmp_path / "manifest.json").write_text('{"format": 1, "name": "align-image-1a2b3c4d", "identity": "1a2b3c4d"}')
    with pytest.raises(ModalignError, match=r"is a run, not a folder of shards; a run is checked by `modalign inspect"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text('{"samples": ')
    with pytest.raises(ModalignError, match=r"is damaged .* index the folder again"):
        read_manifest(tmp_path)
