"""Objects by their dotted path: only of this package, and every wrong key is told with the nearest right one."""

import pytest

from modalign.config.build import build, resolve
from modalign.curriculum.replay import ReplayRule
from modalign.errors import ModalignError

RULE = "modalign.curriculum.replay.ReplayRule"


def test_a_target_is_called_with_its_other_keys_and_what_the_caller_adds():
    assert build({"_target_": RULE, "kind": "ratio"}, "stage.replay", value=0.5) == ReplayRule("ratio", 0.5)


def test_a_part_s_name_is_a_label_and_no_argument():
    assert build({"_target_": RULE, "part": "shared", "kind": "none"}, "here") == ReplayRule("none")


def test_an_unknown_key_names_the_nearest_one_and_the_place():
    with pytest.raises(ModalignError, match=r"unknown setting 'knd' in here .*did you mean 'kind'"):
        build({"_target_": RULE, "knd": "none"}, "here")


def test_a_missing_key_is_named():
    with pytest.raises(ModalignError, match=r"here \(modalign\.curriculum\.order\.by_size\): missing sizes"):
        build({"_target_": "modalign.curriculum.order.by_size", "declared": ["image"]}, "here")


def test_a_target_without_a_path_is_told():
    with pytest.raises(ModalignError, match="needs '_target_'"):
        build({"kind": "none"}, "here")


def test_a_value_that_the_object_refuses_is_told_with_its_place():
    with pytest.raises(ModalignError, match=r"here \(modalign\.data\.order\.Permutation\): "):
        build({"_target_": "modalign.data.order.Permutation", "n": "many", "seed": 0}, "here")


def test_resolving_checks_the_names_and_builds_nothing():
    factory, arguments = resolve({"_target_": RULE, "kind": "no such rule"}, "here")
    assert factory is ReplayRule
    assert arguments == {"kind": "no such rule"}
