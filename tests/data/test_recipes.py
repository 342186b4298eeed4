"""Recipes: read and checked before anything heavy, wrong keys named, digests that follow the data."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from modalign.data.recipes import Recipe, find_recipes, load_recipe, make_hint, recipe_digest
from modalign.errors import ModalignError

SHIPPED = Path(__file__).parents[2] / "data_recipes"
FIELDS = {
    "name": "birds", "title": "Birds", "source": "somewhere", "licence": "CC0-1.0", "task": "caption",
    "media": {"image": "jpg"}, "folder": "birds",
}  # fmt: skip


def write(path, **changes):
    fields = {key: value for key, value in (FIELDS | changes).items() if value is not ...}
    path.write_text(yaml.safe_dump(fields, sort_keys=False))
    return path


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_recipe_loads(path):
    recipe = load_recipe(path)
    assert recipe.licence
    assert recipe.make is not None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"licnce": "MIT", "licence": ...}, "unknown key 'licnce': did you mean 'licence'"),
        ({"title": ...}, "key 'title' is missing"),
        ({"task": "captions"}, "key 'task'.*'captions'"),
        ({"media": {"image": "pyd"}}, r"media.image: files of type .pyd are refused \(nothing is unpickled"),
        ({"media": {"image": "jpge"}}, "did you mean .jpg"),
        ({"media": {"image": "jpg+pkl"}}, "type .pkl are refused"),
        ({"text": "pickle"}, "text: files of type .pickle are refused"),
        ({"name": "bats"}, "is called 'bats' but the file 'birds'"),
        ({"name": "Birds of Paradise"}, "key 'name'"),
        ({"splits": {"train": "many"}}, "key 'splits.train'.*'many'"),
        (
            {"make": {"_target_": "os.system", "command": "true"}},
            "make: _target_ 'os.system' is outside the allowed packages",
        ),
    ],
)
def test_mistakes_in_a_recipe_are_told_in_one_line(tmp_path, changes, reason):
    with pytest.raises(ModalignError, match=reason) as caught:
        load_recipe(write(tmp_path / "birds.yaml", **changes))
    assert "birds.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_recipe_are_told(tmp_path):
    for text, reason in (("a: [", "not valid YAML"), ("- a", "is no recipe"), ("", "is no recipe")):
        (tmp_path / "birds.yaml").write_text(text)
        with pytest.raises(ModalignError, match=reason):
            load_recipe(tmp_path / "birds.yaml")
    with pytest.raises(ModalignError, match="cannot read"):
        load_recipe(tmp_path / "none.yaml")


def test_the_order_of_media_is_kept(tmp_path):
    recipe = load_recipe(write(tmp_path / "birds.yaml", media={"video": "mp4", "audio": "flac"}))
    assert list(recipe.media) == ["video", "audio"]


def test_an_earlier_folder_wins(tmp_path):
    for name in ("mine", "shipped"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "birds.yaml", title=name)
    write(tmp_path / "shipped" / "bats.yaml", name="bats")
    found = find_recipes([tmp_path / "mine", tmp_path / "shipped", tmp_path / "none"])
    assert sorted(found) == ["bats", "birds"]
    assert load_recipe(found["birds"]).title == "mine"


def test_a_folder_may_hold_a_place_to_fill(tmp_path):
    recipe = Recipe.model_validate(FIELDS | {"folder": "world/{world}/image"})
    assert recipe.path("/data", world="standard-12ab") == Path("/data/world/standard-12ab/image")
    with pytest.raises(ModalignError, match=r"folder 'world/{world}/image' needs 'world'"):
        recipe.path("/data")


def test_the_digest_follows_content_and_meaning_only(tmp_path, make_split):
    folder = tmp_path / "birds"
    make_split(folder / "train", count=5)
    make_split(folder / "val", count=3)
    recipe = Recipe.model_validate(FIELDS)
    digest = recipe_digest(recipe, folder, ["train", "val"])
    assert digest == recipe_digest(recipe.model_copy(update={"title": "Other"}), folder, ["val", "train"])
    assert digest != recipe_digest(recipe, folder, ["train"])
    assert digest != recipe_digest(recipe.model_copy(update={"media": {"depth": "jpg"}}), folder, ["train", "val"])
    moved = tmp_path / "elsewhere"
    folder.rename(moved)
    assert digest == recipe_digest(recipe, moved, ["train", "val"])


def test_missing_data_name_the_command_that_makes_them(tmp_path):
    recipe = Recipe.model_validate(FIELDS | {"make": {"_target_": "modalign.data.sources.FolderSource"}})
    with pytest.raises(ModalignError, match="does not exist: run `modalign shards birds`"):
        recipe_digest(recipe, tmp_path / "birds", ["train"])
    assert "comes from somewhere" in make_hint(Recipe.model_validate(FIELDS))


def test_recipes_shards_and_order_work_before_torch_is_imported():
    modules = "recipes, shards, index, reader, order, verify, manifest, make, sources"
    script = f"import sys; from modalign.data import {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
