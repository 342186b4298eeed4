"""A folder of files with a caption table: what becomes of each row, and what is left out and why."""

import collections
import json

import pytest

from modalign.data.sources import Dropped, FolderSource
from modalign.errors import ModalignError


@pytest.fixture
def birds(tmp_path):
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for number in range(10):
        (folder / "sub" / f"bird {number}.JPEG").write_bytes(b"jpeg %d" % number)
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "virus.pyd").write_bytes(b"x")
    (tmp_path / "outside.jpg").write_bytes(b"x")
    return folder


def rows(birds, extra=()):
    good = [f"sub/bird {number}.JPEG,a {'red' if number % 2 else 'blue'} bird" for number in range(10)]
    (birds.parent / "table.csv").write_text("\n".join(["file,caption", *good, *extra]) + "\n")
    return birds.parent / "table.csv"


def test_every_row_is_a_sample(birds):
    items = list(FolderSource(birds, rows(birds)))
    assert len(items) == 10
    split, key, members = items[3]
    assert (split in {"train", "val", "test"}, key) == (True, "00000003-bird-3")
    assert members["jpg"] == b"jpeg 3"
    assert json.loads(members["json"])["caption"] == "a red bird"


def test_splits_are_exact_and_the_same_every_time(birds):
    table = rows(birds)
    labels = {"splits": {"train": 0.7, "val": 0.1, "test": 0.2}, "seed": 3}
    splits = [split for split, _, _ in FolderSource(birds, table, labels=labels)]
    assert collections.Counter(splits) == {"train": 7, "test": 2, "val": 1}
    assert splits == [split for split, _, _ in FolderSource(birds, table, labels=labels)]
    assert splits != [split for split, _, _ in FolderSource(birds, table, labels=labels | {"seed": 4})]


def test_rows_of_one_file_fall_into_one_split(birds):
    again = [f"{'./' * (number % 2)}sub/bird {number}.JPEG,once more" for number in range(10)]
    items = list(FolderSource(birds, rows(birds, again)))
    splits = [split for split, _, _ in items]
    assert splits[:10] == splits[10:]
    assert len({key for _, key, _ in items}) == 20
    assert len(set(splits)) > 1


def test_what_is_left_out_is_counted_by_reason(birds):
    extra = ["none.jpg,a bird", "empty.jpg,a bird", "virus.pyd,a bird", "../outside.jpg,a bird", ",a bird",
             "sub/bird 1.JPEG,"]  # fmt: skip
    items = list(FolderSource(birds, rows(birds, extra)))
    reasons = collections.Counter(item.reason for item in items if isinstance(item, Dropped))
    assert reasons == {
        "the file cannot be read (No such file or directory)": 1,
        "the file is empty": 1,
        "files of type .pyd are not decoded": 1,
        "the file lies outside the folder": 1,
        "no file named in the row": 1,
        "empty caption": 1,
    }
    assert len(items) - sum(reasons.values()) == 10


def test_tables_may_be_tsv_json_jsonl_and_parquet(birds):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    expected = list(FolderSource(birds, rows(birds)))
    table = [{"file": f"sub/bird {n}.JPEG", "caption": f"a {'red' if n % 2 else 'blue'} bird"} for n in range(10)]
    (birds.parent / "t.jsonl").write_text("\n".join(json.dumps(row) for row in table))
    (birds.parent / "t.tsv").write_text("\n".join(["file\tcaption", *("\t".join(row.values()) for row in table)]))
    parquet.write_table(pyarrow.Table.from_pylist(table), birds.parent / "t.parquet")
    (birds.parent / "t.json").write_text(json.dumps(table))
    for name in ("t.jsonl", "t.tsv", "t.parquet", "t.json"):
        assert list(FolderSource(birds, birds.parent / name)) == expected
    (birds.parent / "t.json").write_text(json.dumps({"rows": table}))
    with pytest.raises(ModalignError, match="a JSON table is a list of mappings"):
        list(FolderSource(birds, birds.parent / "t.json"))


def test_captions_may_be_made_of_columns(birds):
    (birds.parent / "t.csv").write_text("path,hue,kind,fold,who\nsub/bird 1.JPEG,1,finch,val,anna\n")
    labels = {
        "caption": "a {hue} {kind}", "words": {"hue": ["blue", "red"]}, "split": "fold", "variant": "who",
        "question": "what kind?", "answer": "{kind}",
    }  # fmt: skip
    with pytest.raises(ModalignError, match="unknown column 'what kind\\?'"):
        list(FolderSource(birds, birds.parent / "t.csv", "path", labels))
    (birds.parent / "t.csv").write_text("path,hue,kind,fold,who,ask\nsub/bird 1.JPEG,1,finch,val,anna,what kind?\n")
    (item,) = FolderSource(birds, birds.parent / "t.csv", "path", labels | {"question": "ask"})
    assert item[0] == "val"
    assert json.loads(item[2]["json"]) == {
        "caption": "a red finch",
        "conversation": [{"question": "what kind?", "answer": "finch"}],
        "attributes": {"hue": "red", "kind": "finch"},
        "subject": "anna",
    }


def test_several_media_make_one_sample(birds):
    (birds / "a.flac").write_bytes(b"song")
    (birds.parent / "t.csv").write_text("photo,song,caption\nsub/bird 1.JPEG,a.flac,x\nsub/bird 2.JPEG,empty.jpg,x\n")
    items = list(FolderSource(birds, birds.parent / "t.csv", {"jpg": "photo", "audio.flac": "song"}))
    assert set(items[0][2]) == {"jpg", "audio.flac", "json"}
    assert isinstance(items[1], Dropped)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"file": "fiel"}, "unknown column 'fiel' in .*table.csv: did you mean 'file'"),
        ({"labels": {"caption": "captoin"}}, "unknown column 'captoin' .*did you mean 'caption'"),
        ({"labels": {"captoin": "caption"}}, "unexpected keyword argument 'captoin'; known: caption"),
        ({"labels": {"splits": {"train": 0.5}}}, "shares that add up to 1"),
        ({"labels": {"caption": "a {file"}}, "is no template"),
        ({"labels": {"caption": "{file}", "words": {"file": {"x": "y"}}}}, "labels.words.file has no word for"),
        ({"folder": "/nowhere"}, "no folder of files at /nowhere"),
        ({"table": "/nowhere/t.csv"}, "cannot read /nowhere/t.csv"),
        ({"table": "/nowhere/t.xls"}, "unknown type of table '.xls'"),
    ],
)
def test_mistakes_are_told_in_one_line(birds, changes, reason):
    settings = {"folder": birds, "table": rows(birds)} | changes
    with pytest.raises(ModalignError, match=reason) as caught:
        list(FolderSource(**settings))
    assert "\n" not in str(caught.value)


def test_an_empty_table_is_told(birds):
    (birds.parent / "t.csv").write_text("file,caption\n")
    with pytest.raises(ModalignError, match="no rows below its header"):
        list(FolderSource(birds, birds.parent / "t.csv"))
    (birds.parent / "t.jsonl").write_text("{broken\n")
    with pytest.raises(ModalignError, match="not a readable table"):
        list(FolderSource(birds, birds.parent / "t.jsonl"))
    (birds.parent / "t.jsonl").write_text('[{"file": "a.png"}]\n')
    with pytest.raises(ModalignError, match="line 1 is not a mapping: write one object a line, not a list of them"):
        list(FolderSource(birds, birds.parent / "t.jsonl"))
