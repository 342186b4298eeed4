"""From raw copies to shards by a recipe: what is written, what is dropped and why, and the digits of scikit-learn."""

import json
from pathlib import Path

import pytest

from modalign.data.decoders import ImageDecoder
from modalign.data.make import make_shards
from modalign.data.reader import ShardReader
from modalign.data.recipes import load_recipe
from modalign.data.verify import verify_folder
from modalign.errors import ModalignError

RECIPES = Path(__file__).parents[2] / "data_recipes"


@pytest.fixture
def raw(tmp_path, png):
    """A folder of pictures with a table, one of whose files is missing and one of another type."""
    (tmp_path / "raw").mkdir()
    lines = ["file,caption"]
    for number in range(30):
        (tmp_path / "raw" / f"{number}.png").write_bytes(png(number))
        lines.append(f"{number}.png,grey {number}")
    (tmp_path / "raw" / "x.jpg").write_bytes(b"x")
    (tmp_path / "raw" / "table.csv").write_text("\n".join([*lines, "gone.png,x", "x.jpg,x"]))
    return tmp_path / "raw"


@pytest.fixture
def recipe(make_recipe_object, raw):
    target = "modalign.data.sources.FolderSource"
    return make_recipe_object(make={"_target_": target, "folder": str(raw), "table": str(raw / "table.csv")})


def test_a_folder_becomes_shards_and_drops_are_counted(tmp_path, recipe):
    report = make_shards(recipe, tmp_path / "data", samples_per_shard=10)
    assert sum(report.written.values()) == 30
    assert set(report.written) == {"train", "val", "test"}
    assert report.dropped == {
        "the file cannot be read (No such file or directory)": 1,
        "no .png in it (it has jpg, json)": 1,
    }
    assert [key for key, _ in report.examples] == ["00000030-gone", "00000031-x"]
    for split, count in report.written.items():
        assert verify_folder(tmp_path / "data" / "greys" / split).readable == count


def test_shards_that_are_there_are_never_made_again_over_them(tmp_path, recipe):
    make_shards(recipe, tmp_path / "data")
    with pytest.raises(ModalignError, match=r"holds shards already \(test, train, val\)"):
        make_shards(recipe, tmp_path / "data")


def test_settings_can_be_given_at_the_call(tmp_path, recipe, raw):
    moved = raw.rename(tmp_path / "moved")
    with pytest.raises(ModalignError, match="no folder of files"):
        make_shards(recipe, tmp_path / "data")
    report = make_shards(recipe, tmp_path / "data", overrides={"folder": moved, "table": moved / "table.csv"})
    assert sum(report.written.values()) == 30
    with pytest.raises(ModalignError, match=r"unknown setting 'foldr' in recipe greys: make .*did you mean 'folder'"):
        make_shards(recipe, tmp_path / "other", overrides={"foldr": moved})


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (None, "does not say how it is made .*get it from generated"),
        ({"_target_": "modalign.data.sources.FolderSource"}, r"needs folder, table: give it as make.folder="),
        ({"_target_": "modalign.data.sources.NoSource"}, "did you mean 'modalign.data.sources"),
        ({"_target_": "modalign.nowhere.X"}, "no module modalign.nowhere"),
    ],
)
def test_a_maker_that_cannot_run_is_told(tmp_path, make_recipe_object, make, reason):
    with pytest.raises(ModalignError, match=reason):
        make_shards(make_recipe_object(make=make), tmp_path)


def test_nothing_made_is_an_error_that_says_why(tmp_path, make_recipe_object, recipe, raw):
    changed = recipe.model_copy(update={"media": {"image": "webp"}})
    with pytest.raises(ModalignError, match=r"not one sample could be made; 32 were dropped, 30 because of: no .webp"):
        make_shards(changed, tmp_path / "data")
    declared = recipe.model_copy(update={"splits": {"train": None}})
    with pytest.raises(ModalignError, match=r"unknown split '(val|test)' in recipe greys"):
        make_shards(declared, tmp_path / "data")
    assert not list((tmp_path / "data").rglob("*.tar"))


def test_the_digits_become_shards_as_their_recipe_says(tmp_path):
    pytest.importorskip("sklearn")
    recipe = load_recipe(RECIPES / "digits.yaml")
    report = make_shards(recipe, tmp_path)
    assert report.written == recipe.splits
    assert report.dropped == {}
    reader = ShardReader(report.folder / "test")
    raw = reader.read(0)
    record = json.loads(raw.members["json"])
    assert record["caption"] == f"a handwritten {record['attributes']['digit']}"
    value = ImageDecoder(48, (0, 0, 0), (1, 1, 1))(raw.members["png"])
    assert value.shape == (3, 48, 48)
    assert value.max() > 229
    words = {json.loads(reader.read(i).members["json"])["attributes"]["digit"] for i in range(len(reader))}
    assert len(words) == 10
