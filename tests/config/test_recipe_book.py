"""The recipes that a command can see, with their sizes and folders, before anything is made."""

from functools import cache

import pytest

from modalign.config.compose import compose_settings
from modalign.config.recipes import RecipeBook
from modalign.data.shards import ShardWriter
from modalign.errors import ModalignError


@cache
def plain_settings():
    return compose_settings(("world=tiny",))[0]


@pytest.fixture
def book(tmp_path):
    own = tmp_path / "recipes"
    own.mkdir()
    recipe = "{name}: mine, title: t, source: s, licence: l, task: caption, media: {image: png}, folder: mine}"
    (own / "mine.yaml").write_text(recipe.replace("{name}:", "{name:") + "\n")
    paths = plain_settings().paths.model_copy(update={"recipes": (str(own),), "data": str(tmp_path / "data")})
    return RecipeBook(plain_settings().model_copy(update={"paths": paths}))


def write_samples(folder, count):
    with ShardWriter(folder) as writer:
        for i in range(count):
            writer.write(f"{i:03d}", {"png": b"png", "json": b"{}"})


def test_own_folders_of_recipes_are_seen_beside_the_shipped_ones(book):
    assert {"mine", "world_image", "digits"} <= set(book.paths)
    assert book.media("mine") == ("image",)
    assert "mine" in book.carrying("image")
    assert "mine" not in book.carrying("audio")


def test_an_own_recipe_wins_over_a_shipped_one_of_the_same_name(book, tmp_path):
    text = (tmp_path / "recipes" / "mine.yaml").read_text().replace("mine", "digits")
    (tmp_path / "recipes" / "digits.yaml").write_text(text)
    assert book.get("digits").title == "t"


def test_sizes_of_the_world_come_from_its_settings_before_it_is_made(book):
    assert book.num_samples("world_image", "train") == plain_settings().world["sizes"]["image"]["train"]
    assert book.num_samples("world_pairs_depth_audio", "train") == 0
    assert not book.folder("world_image").exists()


def test_sizes_of_other_recipes_come_from_their_shards_or_else_as_declared(book):
    assert book.num_samples("digits", "train") == 1438
    assert book.num_samples("mine", "train") == 0
    write_samples(book.folder("mine") / "train", 5)
    assert book.num_samples("mine", "train") == 5


def test_a_world_s_folder_carries_its_name_and_its_settings(book):
    assert book.folder("world_image").parent.name == book.world
    assert book.world.startswith("tiny-")
    harder = plain_settings().model_copy(update={"world": {**plain_settings().world, "seed": 1}})
    assert RecipeBook(harder).world != book.world


def test_what_identifies_data_is_the_world_s_settings_or_the_content_of_the_shards(book, tmp_path):
    assert book.meaning("world_image")["world"] == book.world
    write_samples(book.folder("mine") / "train", 5)
    five = book.meaning("mine")
    assert five == book.meaning("mine")
    assert "title" not in five["recipe"]
    again = RecipeBook(book.settings)
    write_samples(tmp_path / "data2" / "mine" / "train", 6)
    moved = book.settings.paths.model_copy(update={"data": str(tmp_path / "data2")})
    other = RecipeBook(again.settings.model_copy(update={"paths": moved}))
    assert other.meaning("mine")["digest"] != five["digest"]


def test_an_unknown_recipe_names_the_nearest(book):
    with pytest.raises(ModalignError, match=r"unknown recipe 'world_imag'.*did you mean 'world_image'"):
        book.get("world_imag")


def test_what_the_data_group_says_wins_over_the_modality_s_own_recipes(book):
    assert book.alignment_recipes("image") == ("world_image",)
    data = book.settings.data.model_copy(update={"align": {"image": ("mine",)}})
    assert RecipeBook(book.settings.model_copy(update={"data": data})).alignment_recipes("image") == ("mine",)
