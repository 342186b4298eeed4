"""Objects by their dotted path: only of this package, and every wrong key is told with the nearest right one."""

import pytest

from modalign.config.build import build, locate, resolve
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


@pytest.mark.parametrize("path", ["os.system", "subprocess.run", "modalignx.evil", "builtins.eval"])
def test_nothing_outside_the_package_can_be_named(path):
    with pytest.raises(ModalignError, match="outside the allowed packages"):
        build({"_target_": path, "command": "true"}, "here")


def test_a_library_that_a_module_imports_is_no_way_out_of_the_package():
    """`modalign.runs.files.os.system` begins as one of ours and is none."""
    with pytest.raises(ModalignError):
        locate("modalign.runs.files.os.system", "here")
    for path in ("modalign.runs.finished.Path", "modalign.data.shards.os"):
        with pytest.raises(ModalignError):
            build({"_target_": path}, "here")


def test_a_misspelt_class_names_the_nearest_one_of_its_module():
    with pytest.raises(ModalignError, match=r"did you mean 'modalign\.curriculum\.replay\.ReplayRule'"):
        locate("modalign.curriculum.replay.ReplayRul", "here")
    with pytest.raises(ModalignError, match=r"no module modalign\.curriculum\.replai"):
        locate("modalign.curriculum.replai.ReplayRule", "here")


def test_a_value_that_the_object_refuses_is_told_with_its_place():
    with pytest.raises(ModalignError, match=r"here \(modalign\.data\.order\.Permutation\): "):
        build({"_target_": "modalign.data.order.Permutation", "n": "many", "seed": 0}, "here")


def test_resolving_checks_the_names_and_builds_nothing():
    factory, arguments = resolve({"_target_": RULE, "kind": "no such rule"}, "here")
    assert factory is ReplayRule
    assert arguments == {"kind": "no such rule"}
