"""The world's settings: validated, told apart by digest, and difficulty that changes what sensors see."""

from pathlib import Path

import numpy as np
import pytest

from modalign.errors import ModalignError
from modalign.world.difficulty import Difficulty, WorldSettings, load_settings, world_folder
from modalign.world.scene import SENSORS
from modalign.world.sensors import normals

WORLDS = Path(__file__).parents[2] / "conf" / "world"


@pytest.mark.parametrize("name", ["standard", "hard", "tiny"])
def test_shipped_worlds_load_and_their_sizes_fall_from_image_to_fmri(name):
    settings = load_settings(WORLDS / f"{name}.yaml")
    order = ["image", "audio", "video", "point", "depth", "normal", "imu", "fmri"]
    if name == "tiny":
        order = ["image", "video", "point", "audio", "depth", "normal", "imu", "fmri"]
    sizes = [settings.count(f"world_{sensor}", "train") for sensor in order]
    assert sizes == sorted(set(sizes), reverse=True)
    assert sorted(order) == sorted(SENSORS)


def test_the_folder_tells_worlds_apart_by_everything_that_changes_their_bytes():
    base = {"name": "a", "seed": 0, "sizes": {"image": {"train": 4}}}
    changed = [
        {**base, "seed": 1},
        {**base, "sizes": {"image": {"train": 5}}},
        {**base, "difficulty": {"noise": 2.0}},
    ]
    assert world_folder(base) == world_folder({**base, "difficulty": {"noise": 1}})
    assert len({world_folder(world) for world in [base, *changed]}) == 4


def test_scarcity_takes_training_samples_of_sensors_only():
    sizes = {"image": {"train": 100, "test": 10}, "text": {"train": 100}}
    settings = WorldSettings("a", 0, Difficulty(scarcity=0.75), sizes)
    assert settings.count("world_image", "train") == 25
    assert settings.count("world_image", "test") == 10
    assert settings.count("world_text", "train") == 100


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "a", "sead": 1}, "did you mean 'seed'"),
        ({"name": "a", "difficulty": {"nois": 1}}, "did you mean 'noise'"),
        ({"name": "a", "difficulty": {"noise": -1}}, "world.difficulty.noise is -1"),
        ({"name": "a", "difficulty": {"noise": "much"}}, "world.difficulty.noise is 'much'"),
        ({"name": "a", "difficulty": {"scarcity": 1}}, "no training sample"),
        ({"name": "a", "sizes": {"image": {"train": -5}}}, "world.sizes.image.train is -5"),
        ({"name": "a", "sizes": {"image": {"tran": 5}}}, "did you mean 'train'"),
        ({"name": "a", "sizes": {"imag": {"train": 5}}}, "did you mean 'image'"),
        ({"name": "a", "seed": -1}, "world.seed is -1"),
        ({"name": "../a"}, "world.name"),
        ({}, "world.name is missing"),
    ],
)
def test_bad_settings_are_told_in_one_line(values, message):
    with pytest.raises(ModalignError, match=message) as raised:
        WorldSettings.from_mapping(values)
    assert "\n" not in str(raised.value)


def test_noise_and_clutter_at_zero_leave_a_neutral_background_of_normals():
    scene = {"shape": "ball", "size": "small", "place": "left"}
    clean = normals.normals_of(scene, Difficulty(noise=0, clutter=0), np.random.default_rng(0))
    noisy = normals.normals_of(scene, Difficulty(), np.random.default_rng(0))
    assert np.abs(clean[:, 36:]).max() == 0
    assert np.abs(noisy[:, 36:]).std() > 0.05


def test_levels_reach_into_each_other_as_overlap_grows():
    rng = np.random.default_rng(0)
    wrong = []
    for overlap in (0.0, 1.0, 1.6):
        draws = [Difficulty(overlap=overlap).level(rng, 0, (0.0, 1.0)) for _ in range(4000)]
        wrong.append(np.mean(np.array(draws) > 0.5))
    assert wrong[0] == 0
    assert 0 < wrong[1] < 0.012
    assert 0.02 < wrong[2] < 0.09
