"""Verification: readable plus bad is the manifest's count whatever is broken."""

import json

import pytest

from modalign.data.verify import verify_folder
from modalign.errors import ModalignError


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


def test_a_sound_folder_is_ok(tmp_path, make_split):
    report = verify_folder(make_split(tmp_path / "train"))
    assert report.ok
    assert (report.samples, report.readable, report.bad) == (20, 20, [])


def test_a_flipped_content_bit_is_one_bad_sample(tmp_path, make_split):
    folder = make_split(tmp_path / "train")
    index = json.loads((folder / "shard-000001.index.json").read_text())
    flip(folder / "shard-000001.tar", index["samples"][3][1]["png"][0])
    report = verify_folder(folder)
    assert not report.ok
    assert [key for key, _ in report.bad] == ["s0010"]
    assert report.readable + len(report.bad) == report.samples == 20
    assert "SHA-256 differs" in report.problems[0]


def test_a_flipped_header_bit_is_a_problem_though_no_sample_is_lost(tmp_path, make_split):
    folder = make_split(tmp_path / "train")
    flip(folder / "shard-000000.tar", 5)
    report = verify_folder(folder)
    assert not report.ok
    assert (report.readable, report.bad) == (20, [])
    assert any("byte 0: damaged header" in problem for problem in report.problems)


@pytest.mark.parametrize("cut", [1, 1500, 5000])
def test_a_truncated_tar_is_counted(tmp_path, make_split, cut):
    folder = make_split(tmp_path / "train")
    tar = folder / "shard-000002.tar"
    tar.write_bytes(tar.read_bytes()[:-cut])
    report = verify_folder(folder)
    assert not report.ok
    assert report.readable + len(report.bad) == 20


def test_missing_tars_and_broken_indices_are_counted(tmp_path, make_split):
    folder = make_split(tmp_path / "train")
    (folder / "shard-000000.tar").unlink()
    flip(folder / "shard-000001.index.json", 40)
    report = verify_folder(folder)
    assert (report.readable, len(report.bad)) == (6, 14)
    assert len(report.problems) == 2
    assert report.bad[0][0] == "s0000"
    assert report.bad[7][0] == "shard-000001.tar#0"


def test_a_check_of_the_content_is_called_for_every_sample(tmp_path, make_split):
    def check(raw):
        if json.loads(raw.members["json"])["attributes"]["number"] == "13":
            raise ValueError("unlucky")

    report = verify_folder(make_split(tmp_path / "train"), check)
    assert report.bad == [("s0013", "unlucky")]
    assert report.problems == []


def test_a_missing_folder_is_told(tmp_path):
    with pytest.raises(ModalignError, match="does not exist"):
        verify_folder(tmp_path / "none")
