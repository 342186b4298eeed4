"""Rows of annotations: lists opened up, tables joined, splits picked, and pickles of plain lists alone."""

import json
import os
import pickle

import pytest

from modalign.data.guard import check_published_split, evaluation_word
from modalign.data.sources.items import Dropped
from modalign.data.sources.rows import RowReader, make_rows, read_plain_pickle
from modalign.errors import ModalignError


@pytest.fixture
def read(tmp_path):
    """Write files, then read rows as a recipe declares them."""

    def rows(declared, **files):
        for name, content in files.items():
            text = content if isinstance(content, str) else json.dumps(content)
            (tmp_path / name.replace("_", ".")).write_text(text)
        (spec,) = make_rows(declared, "make.rows.train")
        return list(RowReader(tmp_path).read(spec))

    return rows


def test_a_list_lies_anywhere_in_a_file_and_a_mapping_gives_its_keys(read):
    nested = {"a": {"b": [{"x": 1}, {"x": 2}]}}
    assert read({"file": "t.json", "at": "a.b"}, t_json=nested) == [{"x": 1}, {"x": 2}]
    assert read({"file": "t.json", "key": "id"}, t_json={"p": {"x": 1}}) == [{"x": 1, "id": "p"}]
    assert read("t.jsonl", t_jsonl='{"x": 1}\n{"x": 2}') == [{"x": 1}, {"x": 2}]
    assert read({"file": "t.csv", "columns": ["u", "v"]}, t_csv="1,a\n2,b") == [
        {"u": "1", "v": "a"},
        {"u": "2", "v": "b"},
    ]
    with pytest.raises(ModalignError, match=r"unknown place 'a\.c' in .*t\.json: known: b"):
        read({"file": "t.json", "at": "a.c"}, t_json=nested)
    with pytest.raises(ModalignError, match="a list of rows is expected"):
        read({"file": "t.json"}, t_json="3")


def test_entries_of_lists_become_rows_of_their_own(read):
    films = {"f1": {"pass_1": {"told": [{"t": 1}]}, "pass_2": {"told": [{"t": 2}]}, "n": 7}, "f2": {"n": 8}}
    declared = {"file": "t.json", "key": "film", "explode": ["pass_1.told", "pass_2.told"]}
    assert read(declared, t_json=films) == [{"n": 7, "film": "f1", "t": 1}, {"n": 7, "film": "f1", "t": 2}]
    assert read({"file": "t.json", "explode": ["tags"]}, t_json=[{"n": 1, "tags": ["a", "b"]}]) == [
        {"n": 1, "tags": "a"}, {"n": 1, "tags": "b"},
    ]  # fmt: skip


def test_another_table_s_columns_join_and_rows_without_a_partner_are_counted(read):
    tables = {"a": [{"id": 1, "of": 5, "n": "mine"}, {"id": 2, "of": 6}], "b": [{"key": "5", "n": "theirs", "w": 9}]}
    join = {"file": "t.json", "at": "b", "by": "of", "to": "key"}
    found = read({"file": "t.json", "at": "a", "join": [join]}, t_json=tables)
    assert found == [{"id": 1, "of": 5, "n": "mine", "key": "5", "w": 9}, Dropped("6", "no row in t.json for its of")]
    prefixed = read({"file": "t.json", "at": "a", "join": [{**join, "prefix": "b_"}]}, t_json=tables)
    assert prefixed[0]["b_n"] == "theirs"
    many = read({"file": "t.json", "at": "a", "join": [{**join, "many": "all"}]}, t_json=tables)
    assert many[0]["all"] == tables["b"]


def test_rows_are_picked_by_value_or_by_a_list_of_names(read):
    rows = [{"id": "a", "split": 1}, {"id": "b", "split": 2}, {"id": "c", "split": 1}]
    assert [r["id"] for r in read({"file": "t.json", "where": {"split": 1}}, t_json=rows)] == ["a", "c"]
    assert [r["id"] for r in read({"file": "t.json", "where": {"split": [1, 2]}}, t_json=rows)] == ["a", "b", "c"]
    listed = {"file": "t.json", "ids": "ids.txt"}
    assert [r["id"] for r in read(listed, t_json=rows, ids_txt="a_8192.npy\nz\n")] == ["a"]
    assert [r["id"] for r in read({**listed, "drop_ids": True}, t_json=rows, ids_txt="a\n")] == ["b", "c"]


class Evil:
    def __reduce__(self):
        return os.system, ("true",)


@pytest.mark.parametrize(
    "data", [pickle.dumps([Evil()]), pickle.dumps({"a": complex(1)}), b"not a pickle", pickle.dumps([1])[:-1]]
)
def test_a_pickle_of_anything_but_plain_lists_is_refused(tmp_path, data):
    with pytest.raises(ValueError, match=r"only plain lists|damaged pickle"):
        read_plain_pickle(data)
    (tmp_path / "refs.p").write_bytes(data)
    with pytest.raises(ModalignError, match=r"refs.p is not what its name says"):
        list(RowReader(tmp_path).read(make_rows("refs.p", "make.rows.train")[0]))


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_a_pickle_of_plain_lists_is_read(protocol):
    refs = [{"ref_id": 3, "sentences": [{"sent": "a man", "tokens": ["a", "man"]}], "score": 1.5, "none": None}]
    assert read_plain_pickle(pickle.dumps(refs, protocol=protocol)) == refs


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("captions_val2014.json", "val"), ("test_qa.json", "test"), ("results_2M_val.csv", "val"), ("testA", "testa"),
        ("validate", "validate"), ("train_val_videodatainfo.json", "val"), ("train2017", None), ("restval", None),
        ("contest_winners.json", None), ("v2_OpenEnded_mscoco_train2014_questions.json", None), ("dataset.json", None),
    ],
)  # fmt: skip
def test_published_names_say_whether_they_are_for_evaluation(name, word):
    assert evaluation_word(name) == word


def test_the_guard_looks_at_how_rows_are_picked_before_it_looks_at_the_file_s_name():
    check_published_split("train", "train_val_videodatainfo.json", {"split": "train"}, "make.rows.train")
    check_published_split("test", "test_qa.json", {}, "make.rows.test")
    for file, where in (("val.json", {}), ("val.json", {"language": "en"}), ("all.json", {"split": "validate"})):
        with pytest.raises(ModalignError, match="an evaluation split cannot enter training"):
            check_published_split("train", file, where, "make.rows.train")
