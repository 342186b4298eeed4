"""Pieces in several processes: the same shards whatever their number, and what a killed call has finished is kept."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys

import pytest

from modalign.data.convert import unfinished
from modalign.data.make import make_shards
from modalign.data.manifest import MANIFEST_NAME, read_manifest
from modalign.data.reader import ShardReader
from modalign.data.verify import verify_folder
from modalign.errors import ModalignError

TARGET = "modalign.data.sources.AnnotationSource"
COUNT = 40
HELD_OUT = (1, 2, 4, 6, 9, 12, 13, 17, 18, 21, 26, 30, 31, 32)  # of the forty, by hash


@pytest.fixture
def raw(tmp_path, png):
    """Forty pictures with captions in a CSV file, one of them missing and one damaged, and a second split of three."""
    folder = tmp_path / "raw"
    (folder / "pictures").mkdir(parents=True)
    rows = [f"{n},grey number {n}" for n in range(COUNT)]
    (folder / "train.csv").write_text("\n".join(["id,caption", *rows, "3,grey number 3"]))
    (folder / "val.csv").write_text("\n".join(["id,caption", *(f"{n},grey {n}" for n in range(3))]))
    for n in range(COUNT):
        if n != 7:
            (folder / "pictures" / f"{n}.png").write_bytes(png(n) if n != 11 else png(n)[:40])
    return folder


@pytest.fixture
def recipe(make_recipe_object, raw):
    make = {
        "_target_": TARGET, "folder": str(raw), "rows": {"train": "train.csv", "val": "val.csv"},
        "media": {"png": "pictures/{id}.png"}, "words": {"caption": "caption"},
    }  # fmt: skip
    return make_recipe_object(make=make, splits={"train": COUNT, "val": 3, "test": None})


def made(folder):
    return {split: read_manifest(folder / split).digest for split in ("train", "val")}


def test_pieces_become_a_split_that_verifies_and_counts_what_it_lacks(tmp_path, recipe):
    seen = []
    report = make_shards(recipe, tmp_path, 10, progress=lambda *counts: seen.append(counts))
    assert report.written == {"train": COUNT - 2, "val": 3}
    assert report.dropped == {"the file is missing": 1, "the picture does not decode": 1, "a repetition": 1}
    assert seen[-1] == (COUNT + 1, 3)
    kept = json.loads((report.folder / "train" / "report.json").read_text())
    assert kept["written"] == COUNT - 2
    assert kept["dropped"] == report.dropped
    assert ["00000007-7", "the file is missing"] in kept["examples"]
    assert [shard.samples for shard in read_manifest(report.folder / "train").shards] == [9, 9, 10, 10]
    assert verify_folder(report.folder / "train").ok
    assert sorted(p.name for p in (report.folder / "val").iterdir()) == [
        "manifest.json", "report.json", "shard-000000.index.json", "shard-000000.tar",
    ]  # fmt: skip


def test_the_shards_are_the_same_with_any_number_of_workers(tmp_path, recipe):
    one = make_shards(recipe, tmp_path / "one", 6)
    two = make_shards(recipe, tmp_path / "two", 6, workers=2)
    assert made(one.folder) == made(two.folder)
    assert (one.written, one.dropped) == (two.written, two.dropped)


KILLED = """
import os, signal, sys
from pathlib import Path
from modalign.data import pieces
from modalign.data.make import make_shards
from modalign.data.recipes import load_recipe

make, turn = pieces.make_piece, 0

def counted(*arguments):
    global turn
    turn += 1
    if turn == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return make(*arguments)

pieces.make_piece = counted
make_shards(load_recipe(sys.argv[1]), sys.argv[2], 6)
"""


def test_a_killed_call_leaves_no_split_and_the_next_one_makes_only_the_rest(tmp_path, recipe, monkeypatch):
    file = tmp_path / "greys.yaml"
    file.write_text(recipe.model_dump_json())
    killed = subprocess.run([sys.executable, "-c", KILLED, file, tmp_path / "data", "5"], check=False)
    assert killed.returncode == -signal.SIGKILL
    folder = tmp_path / "data" / "greys"
    assert unfinished(folder) == ["train"]
    assert not list(folder.glob(f"*/{MANIFEST_NAME}"))
    (folder / "train.partial" / "shard-000001.tar").write_bytes(b"cut")  # a finished piece that was damaged since
    stale = (folder / "train.partial" / "shard-000000.tar").stat().st_mtime_ns
    counted = count_pieces(monkeypatch)
    report = make_shards(recipe, tmp_path / "data", 6)
    assert len(counted) == 7 + 1 - 3
    assert (folder / "train" / "shard-000000.tar").stat().st_mtime_ns == stale
    assert made(folder) == made(make_shards(recipe, tmp_path / "again", 6).folder)
    assert report.dropped == {"the file is missing": 1, "the picture does not decode": 1, "a repetition": 1}


def count_pieces(monkeypatch):
    from modalign.data import pieces

    make, counted = pieces.make_piece, []
    monkeypatch.setattr(pieces, "make_piece", lambda *given: (counted.append(given[2].number), make(*given))[1])
    return counted


def test_pieces_of_other_rows_or_settings_are_made_anew(tmp_path, recipe, raw, monkeypatch):
    class Stop(Exception):
        pass

    def stop(written, dropped):
        if written >= 12:
            raise Stop

    with pytest.raises(Stop):
        make_shards(recipe, tmp_path, 6, progress=stop)
    table = raw / "train.csv"
    table.write_text(table.read_text().replace("grey number 2\n", "grey number two\n"))
    counted = count_pieces(monkeypatch)
    make_shards(recipe, tmp_path, 6)
    assert 0 in counted
    assert 1 not in counted
    reader = ShardReader(tmp_path / "greys" / "train")
    assert json.loads(reader.read(2).members["json"])["caption"] == "grey number two"


def test_splits_are_made_one_by_one_and_those_that_are_there_are_kept(tmp_path, recipe):
    first = make_shards(recipe, tmp_path, splits=["val"])
    assert first.written == {"val": 3}
    with pytest.raises(ModalignError, match=r"holds shards already \(val\)"):
        make_shards(recipe, tmp_path, splits=["val"])
    before = read_manifest(first.folder / "val").digest
    second = make_shards(recipe, tmp_path)
    assert second.written == {"train": COUNT - 2}
    assert second.kept == ["val"]
    assert read_manifest(first.folder / "val").digest == before
    with pytest.raises(ModalignError, match=r"holds shards already \(train, val\)"):
        make_shards(recipe, tmp_path)
    with pytest.raises(ModalignError, match=r"unknown split 'vall' in recipe greys: did you mean 'val'"):
        make_shards(recipe, tmp_path / "other", splits=["vall"])


def test_a_killed_worker_is_told_in_one_line_and_the_same_command_continues(tmp_path, recipe):
    others = {child.pid for child in multiprocessing.active_children()}  # loaders that an earlier test left open

    def kill(written, dropped):
        for child in multiprocessing.active_children():
            if child.pid not in others:
                os.kill(child.pid, signal.SIGKILL)

    with pytest.raises(ModalignError, match=r"a worker was killed.*fewer --workers"):
        make_shards(recipe, tmp_path, 1, progress=kill, workers=2)
    assert unfinished(tmp_path / "greys") == ["train"]
    assert make_shards(recipe, tmp_path, 1).written == {"train": COUNT - 2, "val": 3}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rows": {"train": "val2017.csv"}}, "reads 'val2017.csv', which is 'val': an evaluation split cannot enter"),
        ({"rows": {"train": {"file": "a.json", "where": {"split": ["train", "testA"]}}}}, "which is 'testa'"),
        ({"rows": {"train": "none.csv"}}, "cannot read .*none.csv"),
        ({"rows": {"train": {"file": "train.csv", "wher": {}}}}, "unknown setting 'wher' .*did you mean 'where'"),
        ({"rows": {"train": {"file": "train.csv", "where": {"splt": 1}}}}, "unknown column 'splt'"),
        ({"rows": {"train": "train.xml"}}, "unknown type of annotation file '.xml'"),
        ({"words": {"captoin": "x"}}, "words: got an unexpected keyword argument 'captoin'"),
        ({"words": {"answer": "x"}}, r"prompt asks for \{question\}"),
        ({"media": {"pyd": "x"}}, "files of type .pyd are refused"),
        (
            {"media": {"png": "wrong/{id}.png"}},
            "not one sample could be made; 41 were dropped, 40 because of: the file is",
        ),
        ({"media": {"png": "pictures/{nr}.png"}}, "because of: no 'nr' in the row"),
        ({"group": "picture"}, "make.group: no column 'picture'"),
        ({"holdout": {"test": 1.5}}, "holdout must be shares"),
        ({"folder": "nowhere"}, "no raw copy at nowhere: set make.folder"),
    ],
)
def test_what_a_recipe_or_its_raw_copy_gets_wrong_is_told_in_one_line(tmp_path, recipe, changes, reason):
    with pytest.raises(ModalignError, match=reason):
        make_shards(recipe, tmp_path, overrides=changes, splits=["train"])
    assert not list(tmp_path.glob("greys/*/manifest.json"))


def test_held_out_samples_are_the_same_on_every_machine_and_in_no_other_split(tmp_path, recipe):
    report = make_shards(recipe, tmp_path, overrides={"holdout": {"test": 0.3}})
    splits = {
        split: {json.loads(reader.read(i, ["json"]).members["json"])["caption"] for i in range(len(reader))}
        for split in ("train", "test")
        for reader in [ShardReader(report.folder / split)]
    }
    assert not splits["train"] & splits["test"]
    assert len(splits["train"] | splits["test"]) == COUNT - 2
    assert splits["test"] == {f"grey number {n}" for n in HELD_OUT}
