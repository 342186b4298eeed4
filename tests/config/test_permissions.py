"""The split guard and licences: what may not be trained on is told before torch is imported."""

import json
from functools import cache

import pytest
import yaml

from modalign.config.compose import compose_settings
from modalign.config.permissions import check_permissions
from modalign.config.recipes import RecipeBook
from modalign.config.specs import Planner
from modalign.data.licences import remember_accepted
from modalign.data.shards import ShardWriter
from modalign.errors import ModalignError


@cache
def plain():
    return compose_settings(("world=tiny", "stage=align", "modality=image", "curriculum.groups=[[image]]"))[0]


@pytest.fixture
def settings(tmp_path):
    """Two recipes of pictures beside the shipped ones: `seen` is trained on, `other` is measured too."""
    own = tmp_path / "recipes"
    own.mkdir()
    for name, more in (("seen", {"overlaps": {"other/test": "the same pictures"}}), ("other", {})):
        fields = {
            "name": name, "title": "t", "source": "https://example.org", "licence": "Stern Terms", "task": "caption",
            "media": {"image": "png"}, "folder": name, "splits": {"train": None, "test": None}, **more,
        }  # fmt: skip
        (own / f"{name}.yaml").write_text(yaml.safe_dump(fields))

    def make(evaluation=("test",), **data):
        base = plain()
        paths = base.paths.model_copy(update={"recipes": (str(own),), "data": str(tmp_path / "data")})
        fields = {"align": {"image": ("seen",)}, "instruct": {"seen": 1.0}, "pairs": (), "text_loss": None}
        changed = {"paths": paths, "data": base.data.model_copy(update=fields | data)}
        changed["evaluation"] = base.evaluation.model_copy(update={"splits": evaluation})
        return base.model_copy(update=changed)

    return make


def write(folder, words="{}", count=3):
    with ShardWriter(folder) as writer:
        for number in range(count):
            writer.write(f"{number:03d}", {"png": b"png", "json": words.encode()})


def checked(settings):
    book = RecipeBook(settings)
    return check_permissions(settings, book, Planner(settings, book).plan())


def demand(tmp_path, **changes):
    """Let a recipe ask for its licence to be accepted."""
    file = tmp_path / "recipes" / "seen.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"accept_licence": True} | changes))


def test_a_licence_has_to_be_accepted_by_name(tmp_path, settings):
    write(tmp_path / "data" / "seen" / "train")
    demand(tmp_path, licence_url="https://example.org/terms")
    with pytest.raises(ModalignError) as told:
        checked(settings())
    message = "recipe seen: its data are under Stern Terms (https://example.org/terms), which you must accept: "
    assert str(told.value) == message + "read it, then add data.accept_licences=[seen]"
    assert checked(settings(accept_licences=("seen",))) == []


def test_an_acceptance_is_remembered_beside_the_shards(tmp_path, settings):
    write(tmp_path / "data" / "seen" / "train")
    demand(tmp_path)
    book = RecipeBook(settings())
    remember_accepted(book.get("seen"), book.folder("seen"))
    assert checked(settings()) == []
    assert json.loads((tmp_path / "data" / "seen" / "licence.json").read_text())["licence"] == "Stern Terms"


def test_a_shard_that_is_measured_cannot_be_trained_on_under_another_name(tmp_path, settings):
    write(tmp_path / "data" / "seen" / "train", '{"caption": "x"}')
    write(tmp_path / "data" / "seen" / "test", '{"caption": "y"}')
    assert checked(settings()) == []
    write(tmp_path / "data" / "other" / "test", '{"caption": "x"}')
    assert checked(settings()) == []  # other is not measured
    with pytest.raises(ModalignError, match=r"shard shard-000000.tar of its training split is also in other/test"):
        checked(settings(pairs=("other",)))


def test_overlaps_that_are_known_are_told_where_they_matter(tmp_path, settings):
    write(tmp_path / "data" / "seen" / "train")
    assert checked(settings()) == []
    told = "recipe seen trains on what other/test measures: the same pictures"
    assert checked(settings(pairs=("other",))) == [told]
    assert checked(settings(pairs=("other",), evaluation=("val",))) == []


def test_a_recipe_without_a_training_split_is_for_evaluation(tmp_path, settings):
    file = tmp_path / "recipes" / "seen.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"splits": {"val": 5, "test": 5}}))
    with pytest.raises(
        ModalignError, match=r"data.*: recipe seen has no training split \(its splits: test, val\): an eval"
    ):
        checked(settings())


def test_the_training_split_is_not_measured(settings):
    with pytest.raises(ModalignError, match=r"evaluation.splits: 'train' is what training reads"):
        checked(settings(evaluation=("test", "train")))


@pytest.mark.parametrize("key", ["locations", "accept_licences"])
def test_names_of_recipes_in_these_settings_are_checked(tmp_path, settings, key):
    write(tmp_path / "data" / "seen" / "train")
    with pytest.raises(ModalignError, match=rf"unknown recipe 'sene' in data.{key}: did you mean 'seen'"):
        checked(settings(**{key: {"sene": "x"} if key == "locations" else ("sene",)}))


def test_a_recipe_may_lie_elsewhere(tmp_path, settings):
    write(tmp_path / "shared" / "pictures" / "train", count=4)
    book = RecipeBook(settings(locations={"seen": str(tmp_path / "shared" / "pictures")}))
    assert book.num_samples("seen", "train") == 4
    far = RecipeBook(settings(locations={"seen": "s3://bucket/pictures"}))
    assert str(far.folder("seen") / "train") == "s3://bucket/pictures/train"
    assert far.folder("other") == tmp_path / "data" / "other"
    paths = settings().paths.model_copy(update={"data": "s3://bucket"})
    with pytest.raises(ModalignError, match=r"shards are made on a disk, and paths.data is s3://bucket"):
        RecipeBook(settings().model_copy(update={"paths": paths})).data_root()
