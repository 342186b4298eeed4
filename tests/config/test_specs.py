"""The plan of a command: which runs, in which order, on what, and under which identity."""

import itertools
import re
from fractions import Fraction
from functools import cache

import pytest

from modalign.config.compose import compose_settings
from modalign.config.recipes import RecipeBook
from modalign.config.schema import Settings
from modalign.config.specs import Planner
from modalign.errors import ModalignError


@cache
def default() -> dict:
    return compose_settings(())[1]


def settings_with(**changes):
    """The default settings with some changed by dotted name; pydantic checks them as the command would."""
    plain = {key: value for key, value in default().items()}
    for name, value in changes.items():
        plain = replaced(plain, name.split("__"), value)
    return Settings.model_validate(plain)


def replaced(mapping, path, value):
    first, *rest = path
    return {**mapping, first: replaced(mapping.get(first, {}), rest, value) if rest else value}


def plan(**changes):
    settings = settings_with(**changes)
    return Planner(settings, RecipeBook(settings)).plan()


def identities(**changes):
    return [spec.identity for spec in plan(**changes)]


def test_the_whole_curriculum_is_backbones_then_largest_sense_first_then_instruction():
    specs = plan()
    assert [spec.stage for spec in specs[:2]] == ["pretrain_text", "pretrain_contrast"]
    assert [spec.new[0] for spec in specs[2:-1]] == [
        "image",
        "audio",
        "video",
        "point",
        "depth",
        "normal",
        "imu",
        "fmri",
    ]
    assert specs[-1].stage == "instruct"
    assert all(
        child.parent is not None and child.parent.name == parent.name for parent, child in itertools.pairwise(specs)
    )
    assert [spec.requested for spec in specs] == [False] * 2 + [True] * 9


def test_one_sense_is_one_phase_on_the_curriculum_before_it():
    specs = plan(stage="align", modality="audio")
    assert [spec.new for spec in specs if spec.requested] == [("audio",)]
    assert specs[-1].seen == ("image",)
    assert specs[-1].parent.new == ("image",)
    assert [s.identity for s in specs] == identities()[: len(specs)]  # the same runs as the whole curriculum's


def test_several_senses_are_added_jointly_and_their_siblings_are_not_run():
    specs = plan(stage="align", modality=("depth", "video"))
    assert specs[-1].new == ("video", "depth")
    assert specs[-1].seen == ("image", "audio")
    assert {m for spec in specs for m in spec.modalities} == {"image", "audio", "video", "depth"}


def test_replay_shares_are_half_new_and_half_old_and_the_old_alike():
    shares = plan(stage="align", modality="point")[-1].shares
    assert shares["world_point"] == Fraction(1, 2)
    assert {shares[f"world_{m}"] for m in ("image", "audio", "video")} == {Fraction(1, 6)}


def test_replay_adds_steps_and_a_phase_may_have_a_length_of_its_own():
    steps = default()["curriculum"]["steps"]["audio"]
    assert plan(stage="align", modality="audio")[-1].steps == 2 * steps
    budgets = {"default": 3, "audio": 7}
    assert plan(stage="align", modality="audio", curriculum__steps=budgets)[-1].steps == 14
    alone = plan(stage="align", modality="audio", curriculum__steps=budgets, stages__align__replay="none")
    assert alone[-1].steps == 7


@pytest.mark.parametrize("rule", ["balancd", "equal:3", "ratio", "temperature", "ratio:2", "temperature:0"])
def test_what_is_told_of_a_wrong_rule_of_replay_can_be_typed(rule):
    with pytest.raises(ModalignError, match=r"stages\.align\.replay\b") as caught:
        plan(stage="align", modality="audio", stages__align__replay=rule)
    told = re.findall(r"`(.*)`", str(caught.value))
    assert len(told) == (rule in {"equal:3", "ratio", "temperature"})
    for word in told:
        settings, _ = compose_settings(["stage=align", "modality=audio", word])
        assert Planner(settings, RecipeBook(settings)).plan()[-1].new == ("audio",)


def test_a_stage_s_own_steps_go_before_the_curriculum_s_budgets():
    budgets = {"default": 11, "image": 7}
    by_modality = plan(stage="align", modality="audio", curriculum__steps=budgets, stages__align__steps=None)
    assert [spec.steps for spec in by_modality[-2:]] == [7, 22]
    own = plan(stage="align", modality="audio", curriculum__steps=budgets, stages__align__steps=5)
    assert [spec.steps for spec in own[-2:]] == [5, 10]
    with pytest.raises(ModalignError, match=r"set stages\.align\.steps or curriculum\.steps\.image"):
        plan(stage="align", modality="image", curriculum__steps={}, stages__align__steps=None)
    with pytest.raises(ModalignError, match=r"set stages\.instruct\.steps$"):
        plan(stage="instruct", stages__instruct__steps=None)


@pytest.mark.parametrize(("keep", "steps"), [("new", [30, 80]), ("total", [30, 40])])
def test_a_phase_s_own_steps_are_those_of_its_new_samples_unless_replay_keeps_the_total(keep, steps):
    specs = plan(
        stage="align",
        curriculum__groups=(("image",), ("audio", "video")),
        stages__align__steps=None,
        stages__align__phases={default()["curriculum"]["name"]: ({"steps": 30}, {"steps": 40})},
        stages__align__replay_keep=keep,
    )
    assert [spec.steps for spec in specs if spec.new] == steps


def test_only_the_first_phase_has_the_first_phase_s_experts():
    specs = [spec for spec in plan() if spec.stage == "align"]
    assert [spec.num_experts for spec in specs] == [1] + [None] * 7


def test_instruction_is_narrowed_to_the_senses_asked_for():
    spec = plan(stage="instruct", modality=("image", "audio"))[-1]
    assert spec.modalities == ("image", "audio")
    assert set(spec.recipes) == {"world_image", "world_audio", "world_pairs_image_audio", "world_chat", "world_text"}
    weights = default()["data"]["instruct"]
    assert spec.shares["world_pairs_image_audio"] / spec.shares["world_image"] == Fraction(
        repr(weights["world_pairs_image_audio"])
    ) / Fraction(repr(weights["world_image"]))


def test_a_backbone_is_planned_alone_with_what_it_stands_on():
    assert [s.stage for s in plan(stage="pretrain_text")] == ["pretrain_text"]
    assert [(s.stage, s.requested) for s in plan(stage="pretrain_contrast")] == [
        ("pretrain_text", False), ("pretrain_contrast", True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"trainer__devices": 4}, {"trainer__accelerator": "cpu"}, {"trainer__threads": 3}, {"trainer__log_every": 1},
        {"trainer__checkpoint_every": 7}, {"trainer__progress": False}, {"data__workers": 4}, {"data__cache_mb": 0},
        {"data__feature_cache": "on"}, {"data__feature_cache": "auto"}, {"data__feature_cache_gb": 1.0},
        {"logger__wandb": True}, {"paths__runs": "elsewhere"}, {"paths__data": "elsewhere"}, {"fresh": True},
        {"evaluation__batch_size": 3}, {"evaluation__num_items": 5}, {"model__name": "another"},
        {"model__make_missing": False}, {"curriculum__name": "another"},
        {"modalities__audio__title": "Sound"}, {"modalities__audio__display": {}},
    ],
    ids=lambda change: "-".join(change),
)  # fmt: skip
def test_what_changes_no_result_changes_no_identity(change):
    assert identities(**change) == identities()


@pytest.mark.parametrize(
    ("change", "first"),
    [
        ({"seed": 1}, "pretrain_text"),
        ({"world__difficulty__noise": 2.0}, "pretrain_text"),
        ({"model__language_model__source__hidden_size": 192}, "pretrain_text"),
        ({"trainer__precision": "bf16-mixed"}, "pretrain_text"),
        ({"trainer__compile": "blocks"}, "pretrain_text"),
        ({"stages__pretrain_contrast__steps": 9}, "pretrain_contrast"),
        ({"stages__align__optimizer__learning_rate": 5e-4}, "image"),
        ({"stages__align__slice_size": 24}, "image"),
        ({"model__projectors__upm__num_queries": 9}, "image"),
        ({"curriculum__expert_noise": 0.5}, "image"),
        ({"modalities__audio__learning_rate_scale": 9.0}, "audio"),
        ({"modalities__fmri__tokenizer__num_tokens": 9}, "fmri"),
        ({"stages__instruct__caption_share": 0.9}, "instruct"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_what_changes_a_result_changes_the_identity_from_the_phase_on_that_it_touches(change, first):
    before, after = plan(), plan(**change)
    names = [(spec.new or (spec.stage,))[0] for spec in before]
    touched = names.index(first)
    same = [a.identity == b.identity for a, b in zip(before, after, strict=True)]
    assert same == [True] * touched + [False] * (len(before) - touched)


def test_a_run_is_named_by_stage_senses_and_identity():
    spec = plan(stage="align", modality=("depth", "video"))[-1]
    assert spec.name == f"align-video+depth-{spec.identity[:8]}"
    assert len(spec.identity) == 64
    joint = plan()[-1]
    assert joint.name.startswith("instruct-image+audio+")


def test_a_sense_without_a_recipe_takes_no_part_unless_it_is_asked_for():
    silent = {"data__align": {"audio": ()}}
    assert "audio" not in {m for spec in plan(**silent) for m in spec.modalities}
    with pytest.raises(ModalignError, match=r"'audio' has no recipe to be aligned with; .* carry it: .*world_audio"):
        plan(stage="align", modality="audio", **silent)


def test_a_stage_of_which_nothing_says_what_it_trains_is_told():
    with pytest.raises(ModalignError, match=r"set stages\.align\.parts"):
        plan(stage="align", modality="audio", stages__align__train="new", stages__align__parts=())


def test_a_mixture_of_two_recipes_weighs_them_by_their_size():
    specs = plan(stage="align", modality="image", data__align={"image": ("world_image", "world_pairs_image_audio")})
    big, small = (settings_with().world["sizes"][n]["train"] for n in ("image", "pairs_image_audio"))
    shares = specs[-1].shares
    assert shares["world_image"] / shares["world_pairs_image_audio"] == Fraction(big, small)


@pytest.mark.parametrize("name", ["keys", "left.ear", "2d", "train"])
def test_what_cannot_name_a_part_of_the_model_is_refused_by_name(name):
    ear = default()["modalities"]["audio"]
    with pytest.raises(ModalignError, match=rf"modalities: '{name}' cannot be the name of a part of the model"):
        plan(modalities=default()["modalities"] | {name: ear})


def test_senses_that_are_added_one_after_another_stand_on_each_other_and_train_their_own_parts():
    added = ["fmri", "audio"]
    one = plan(stage="align", modality="fmri", curriculum__additive=added)
    two = plan(stage="align", modality="audio", curriculum__additive=added)
    assert [spec.new for spec in two][-3:] == [("imu",), ("fmri",), ("audio",)]
    assert [spec.train for spec in two][-2:] == ["new", "new"]
    assert two[-2].identity == one[-1].identity  # what was added first is found again
    assert set(two[-1].shares) == {"world_audio"}
    assert "audio" not in two[-2].seen


def test_a_sense_to_be_added_has_to_be_declared():
    with pytest.raises(ModalignError, match=r"unknown modality 'audoi' in curriculum.additive: did you mean 'audio'"):
        plan(curriculum__additive=["audoi"])
