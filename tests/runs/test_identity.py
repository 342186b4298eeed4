"""The identity of a run."""

import subprocess
import sys
from pathlib import Path

import pytest

from modalign.errors import ModalignError
from modalign.runs.identity import canonical, differences, identity, run_name

SPEC = {"stage": "align", "lr": 3e-4, "replay": ["ratio", 0.3], "parent": None, "model": {"experts": 3, "tags": True}}


def test_the_order_of_keys_and_tuples_make_no_difference():
    shuffled = {**dict(reversed(SPEC.items())), "replay": ("ratio", 0.3)}
    assert identity(shuffled) == identity(SPEC)
    assert len(identity(SPEC)) == 64


@pytest.mark.parametrize(
    "change", [{"lr": 3.0000001e-4}, {"parent": "ab"}, {"model": {"experts": 3, "tags": 1}}, {"more": None}]
)
def test_every_setting_makes_a_difference(change):
    assert identity({**SPEC, **change}) != identity(SPEC)


def test_the_identity_is_the_same_in_every_process_and_version():
    code = f"from modalign.runs.identity import identity; print(identity({SPEC!r}))"
    printed = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert printed == {identity(SPEC)}
    assert canonical({"b": 0.1, "a": (1, "ü")}) == b'{"a":[1,"\\u00fc"],"b":0.1}'


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Path("runs"), r"spec\.at\[1\] is PosixPath"),
        ({1, 2}, "is set"),
        (float("nan"), "is nan"),
        (float("inf"), "is inf"),
        ({3: "x"}, "has the key 3"),
        (object(), "is object"),
    ],
)
def test_what_has_no_canonical_form_is_refused_by_place(value, message):
    with pytest.raises(TypeError, match=message):
        identity({"at": [0, value]})


def test_a_run_is_named_by_stage_modalities_and_digest():
    digest = identity(SPEC)
    assert run_name("align", ["audio"], digest) == f"align-audio-{digest[:8]}"
    assert run_name("align", ["video", "audio"], digest) == f"align-video+audio-{digest[:8]}"
    assert run_name("pretrain_text", [], digest) == f"pretrain_text-{digest[:8]}"


def test_a_long_list_of_modalities_is_cut_but_still_counted():
    name = run_name("instruct", [f"sensor_number_{i}" for i in range(40)], identity(SPEC))
    assert len(name) < 120
    assert "more-" in name


@pytest.mark.parametrize("name", ["../up", "a/b", "", "a b", ".hidden"])
def test_a_name_that_is_no_folder_name_is_refused(name):
    with pytest.raises(ModalignError, match="cannot name a run folder"):
        run_name("align", [name], identity(SPEC))


def test_differences_name_the_settings():
    other = {**SPEC, "lr": 1e-3, "model": {"experts": 5, "tags": True}, "replay": ("ratio", 0.3), "more": 1}
    assert differences(SPEC, other) == ["lr: 0.0003 != 0.001", "model.experts: 3 != 5", "more: (absent) != 1"]


def test_settings_inside_lists_of_mappings_are_told_apart():
    one, other = (
        {"stage": ["align", {"replay": "balanced", "steps": 3}]},
        {"stage": ["align", {"replay": "none", "steps": 3}]},
    )
    assert differences(one, other) == ["stage.1.replay: balanced != none"]
