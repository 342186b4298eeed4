"""Samples of the world: real files, deterministic, of the right split, and words that say what the sensor shows."""

import io
import json
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

from modalign.errors import ModalignError
from modalign.world.catalogue import PAIR_RECIPES, RECIPES, SENSOR_RECIPES, num_samples, pair_extensions
from modalign.world.difficulty import load_settings
from modalign.world.samples import world_sample, world_samples
from modalign.world.scene import ATTRIBUTES, EXTENSIONS
from modalign.world.splits import SPLITS, is_unseen
from modalign.world.words import attributes_in

WORLDS = Path(__file__).parents[2] / "conf" / "world"


@pytest.fixture(scope="module")
def tiny():
    return load_settings(WORLDS / "tiny.yaml")


def record_of(members):
    return json.loads(members["json"])


def test_every_recipe_of_the_tiny_world_gives_its_number_of_samples(tiny):
    for recipe in RECIPES:
        for split in ("val", "test"):
            samples = list(world_samples(tiny, recipe, split))
            assert len(samples) == num_samples(tiny, recipe, split)
            assert len({key for key, _ in samples}) == len(samples)


def test_a_sample_is_the_same_whenever_and_in_whatever_order_it_is_made(tiny):
    for recipe in RECIPES:
        again = world_sample(tiny, recipe, "test", 5)
        world_sample(tiny, recipe, "test", 0)
        assert world_sample(tiny, recipe, "test", 5) == again
        assert world_sample(tiny, recipe, "test", 6)[1] != again[1]
        assert world_sample(tiny, recipe, "val", 5)[1] != again[1]


def test_captions_name_exactly_the_attributes_that_the_sensor_shows(tiny):
    for recipe, sensor in SENSOR_RECIPES.items():
        for _, members in world_samples(tiny, recipe, "train"):
            record = record_of(members)
            assert set(record["attributes"]) == set(ATTRIBUTES[sensor])
            assert record["caption"] in record["captions"]
            for caption in record["captions"]:
                assert attributes_in(caption, sensor) == record["attributes"]


def test_only_test_unseen_has_the_held_out_combinations(tiny):
    for recipe, sensor in SENSOR_RECIPES.items():
        for split in SPLITS:
            scenes = [record_of(members)["attributes"] for _, members in world_samples(tiny, recipe, split)]
            assert {is_unseen(tiny.seed, sensor, scene) for scene in scenes} == {split == "test_unseen"}


def test_pairs_hold_both_files_and_neither_scene_leaves_its_split(tiny):
    for recipe, sensors in PAIR_RECIPES.items():
        for split in ("test", "test_unseen"):
            for index in range(6):
                _, members = world_sample(tiny, recipe, split, index)
                assert set(members) == {"json", *pair_extensions(sensors).values()}
                scenes = record_of(members)["attributes"]
                assert [is_unseen(tiny.seed, s, scenes[s]) for s in sensors] == [split == "test_unseen"] * 2


def test_questions_outside_training_have_one_turn_and_in_training_up_to_three(tiny):
    for recipe in SENSOR_RECIPES:
        lengths = {len(record_of(m)["conversation"]) for _, m in world_samples(tiny, recipe, "train")}
        assert lengths == {1, 2, 3}
        assert {len(record_of(m)["conversation"]) for _, m in world_samples(tiny, recipe, "test")} == {1}


def media_of(settings, recipe, index=0):
    _, members = world_sample(settings, recipe, "test", index)
    return io.BytesIO(members[EXTENSIONS[SENSOR_RECIPES[recipe]]])


def test_files_are_real_and_have_the_stated_shapes_and_units(tiny):
    with Image.open(media_of(tiny, "world_image")) as picture:
        assert (picture.format, picture.size, picture.mode) == ("JPEG", (48, 48), "RGB")
    with av.open(media_of(tiny, "world_video")) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert np.stack(frames).shape == (5, 48, 48, 3)
    wave, rate_hz = soundfile.read(media_of(tiny, "world_audio"))
    assert rate_hz == 8000
    assert wave.shape == (8000,)
    depth = np.asarray(Image.open(media_of(tiny, "world_depth")))
    assert depth.dtype == np.uint16
    assert depth.shape == (48, 48)
    assert 2500 < np.median(depth) < 4000
    normals = np.asarray(Image.open(media_of(tiny, "world_normal"))).astype(float)
    assert np.abs(np.median(normals, axis=(0, 1)) - 127.5).max() < 8
    points = np.load(media_of(tiny, "world_point"))
    assert points.shape == (320, 6)
    assert 0 <= points[:, 3:].min() <= points[:, 3:].max() <= 1
    series = np.load(media_of(tiny, "world_imu"))
    assert series.shape == (100, 6)
    assert 7 < np.linalg.norm(series[:, :3].mean(0)) < 13


def test_subjects_of_the_voxel_sensor_have_their_own_voxel_counts(tiny):
    sizes = {}
    for index in range(4):
        _, members = world_sample(tiny, "world_fmri", "train", index)
        sizes[record_of(members)["subject"]] = np.load(io.BytesIO(members["npy"])).shape
    assert sizes == {"one": (320,), "two": (384,)}


def test_the_same_scene_never_gives_the_same_voxels(tiny):
    from modalign.world.sensors import voxels

    scene = {"shape": "ball", "colour": "red", "place": "left"}
    draws = [voxels.voxels_of(scene, tiny.difficulty, np.random.default_rng(i), 0, "one") for i in range(2)]
    other = voxels.voxels_of({**scene, "colour": "blue"}, tiny.difficulty, np.random.default_rng(0), 0, "one")
    assert not np.array_equal(*draws)
    assert not np.array_equal(draws[0], other)


def test_an_unknown_recipe_or_split_is_named_with_the_nearest(tiny):
    with pytest.raises(ModalignError, match="did you mean 'world_image'"):
        list(world_samples(tiny, "world_imag", "test"))
    with pytest.raises(ModalignError, match="did you mean 'test'"):
        list(world_samples(tiny, "world_image", "tets"))
