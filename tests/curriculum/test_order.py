"""The order in which modalities are taught."""

import pytest

from modalign.curriculum.order import by_size, declared_groups
from modalign.errors import ModalignError

DECLARED = ["image", "audio", "video", "imu"]


def test_the_largest_dataset_comes_first_and_ties_keep_the_declared_order():
    sizes = {"image": 10, "audio": 500, "video": 500, "imu": 7, "unused": 9999}
    assert by_size(sizes, DECLARED) == (("audio",), ("video",), ("image",), ("imu",))


def test_a_modality_without_a_recipe_is_named():
    with pytest.raises(ModalignError, match="modality 'imu' has no recipe"):
        by_size({"image": 1, "audio": 1, "video": 1}, DECLARED)


def test_an_empty_recipe_is_an_error():
    with pytest.raises(ModalignError, match="'image' has 0 training samples"):
        by_size({"image": 0}, ["image"])


def test_declared_groups_accept_single_names_and_lists():
    assert declared_groups(["image", ["video", "audio"]], DECLARED) == (("image",), ("video", "audio"))


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (["image", ["vidoe"]], "unknown modality 'vidoe' in curriculum group 1: did you mean 'video'"),
        (["image", ["audio", "image"]], "image named more than once"),
        (["image", []], "group 1 is empty"),
        ([], "no groups"),
    ],
)
def test_a_wrong_group_is_told_in_one_line(groups, message):
    with pytest.raises(ModalignError, match=message) as caught:
        declared_groups(groups, DECLARED)
    assert "\n" not in str(caught.value)
