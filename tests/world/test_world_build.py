"""A world on disk: made once, kept, made again where a part is missing, by one process or two alike."""

from pathlib import Path

import pytest

from modalign.data.manifest import read_manifest
from modalign.data.recipes import load_recipe
from modalign.errors import ModalignError
from modalign.world import build
from modalign.world.build import make_recipe, make_world, num_samples
from modalign.world.catalogue import RECIPES
from modalign.world.difficulty import load_settings, world_folder
from modalign.world.splits import SPLITS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tiny():
    return load_settings(ROOT / "conf" / "world" / "tiny.yaml")


@pytest.fixture(scope="module")
def made(tiny, tmp_path_factory):
    return make_world(tiny, tmp_path_factory.mktemp("data"), workers=1)


def digests(folder):
    return {str(p.relative_to(folder)): read_manifest(p.parent).digest for p in sorted(folder.rglob("manifest.json"))}


def test_the_world_holds_every_recipe_and_split_that_its_settings_name(tiny, made):
    for recipe in RECIPES:
        for split in SPLITS:
            count = num_samples(tiny, recipe, split)
            assert (made / recipe / split).is_dir() == bool(count)
            if count:
                assert read_manifest(made / recipe / split).samples == count
    assert made.name == world_folder(tiny)


def test_a_world_that_is_there_is_kept(tiny, made, monkeypatch):
    monkeypatch.setattr(build, "write_piece", lambda *_: pytest.fail("made again"))
    assert make_world(tiny, made.parent) == made


def test_two_processes_make_the_same_bytes_and_only_what_is_missing(tiny, made, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "MIN_FOR_PROCESSES", 1)
    names = ["world_imu", "world_chat"]
    make_recipe("world_chat", tiny, tmp_path)
    before = (tmp_path / made.name / "world_chat" / "test" / "manifest.json").stat().st_mtime_ns
    folder = make_world(tiny, tmp_path, names, workers=2)
    expected = {name: digest for name, digest in digests(made).items() if name.startswith(tuple(names))}
    assert digests(folder) == expected
    assert (folder / "world_chat" / "test" / "manifest.json").stat().st_mtime_ns == before


def test_a_split_of_another_size_is_an_error_that_names_both_counts(tiny, tmp_path, monkeypatch):
    make_recipe("world_imu", tiny, tmp_path)
    monkeypatch.setattr(build, "num_samples", lambda *_: 7)
    with pytest.raises(ModalignError, match="samples but the world's settings say 7"):
        make_recipe("world_imu", tiny, tmp_path)


def test_a_folder_that_cannot_be_written_is_told_in_one_line(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ModalignError, match="cannot write the world"):
        make_world(tiny, tmp_path / "file")


def test_shipped_recipes_describe_the_members_that_are_made(made):
    for name in RECIPES:
        recipe = load_recipe(ROOT / "data_recipes" / f"{name}.yaml")
        folder = recipe.path(made.parent.parent, world=made.name)
        assert folder.name == name
        splits = {path.name for path in (made / name).iterdir()}
        assert set(recipe.splits) == splits
        from modalign.data.reader import ShardReader

        sample = ShardReader(made / name / "test").read(0)
        assert set(sample.members) == {recipe.text, *recipe.media.values()}


def test_an_unknown_recipe_is_told(tiny, tmp_path):
    with pytest.raises(ModalignError, match="did you mean 'world_chat'"):
        make_recipe("world_chta", tiny, tmp_path)
