"""The file of a study, the commands that it stands for, and the backbones that all of its runs stand on."""

from pathlib import Path

import pytest

from modalign.cli.ablate_jobs import plan_jobs
from modalign.config.compose import compose_settings
from modalign.config.places import shipped_runs
from modalign.config.recipes import RecipeBook
from modalign.config.shipped import could_be_shipped
from modalign.config.specs import Planner
from modalign.config.study import (
    BY_ITEM,
    METRICS,
    SPLITS,
    Study,
    check_modalities,
    commands_of,
    load_study,
    studies_of,
)
from modalign.errors import ModalignError
from modalign.evaluation.report.phrases import METRIC_NAMES, SHARES, SPLIT_NAMES, TASK_NAMES

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"


def planned(*overrides):
    settings, _ = compose_settings(overrides)
    return Planner(settings, RecipeBook(settings)).plan()


def study(**changes):
    given = {"title": "One or two", "base": ["stage=align"], "baseline": "one", "arms": {"one": [], "two": ["a=1"]}}
    return Study.model_validate(given | changes)


def test_every_arm_is_run_with_a_seed_before_any_is_with_the_next():
    commands = commands_of("numbers", study(), ("one", "two"), (0, 5), ("world=tiny",))
    assert [(c.arm, c.seed) for c in commands] == [("one", 0), ("two", 0), ("one", 5), ("two", 5)]
    assert commands[-1].overrides == ("stage=align", "a=1", "seed=5", "world=tiny")


def test_an_arm_of_several_parts_is_as_many_commands():
    arms = {"one": [], "each": {"settings": ["a=1"], "parts": [["b=1"], ["b=2"]]}}
    commands = commands_of("parts", study(arms=arms), ("each",), (0,), ())
    assert [c.overrides for c in commands] == [("stage=align", "a=1", f"b={n}", "seed=0") for n in (1, 2)]
    assert [c.part for c in commands] == [0, 1]


def test_shipped_backbones_serve_every_seed_and_world():
    chains = [planned("model.backbones_from=shipped", *more) for more in ([], ["seed=3"], ["world=hard", "seed=1"])]
    names = {tuple(spec.name for spec in chain if spec.stage.startswith("pretrain")) for chain in chains}
    assert len(names) == 1
    assert all((shipped_runs() / name).is_dir() for name in names.pop())
    assert len({chain[-1].identity for chain in chains}) == 3


def test_with_the_default_seed_and_world_shipped_backbones_are_the_very_same_runs():
    assert [s.identity for s in planned("model.backbones_from=shipped")] == [s.identity for s in planned()]


def test_shipped_backbones_are_refused_for_another_model():
    with pytest.raises(ModalignError, match="hidden_size: 128 and not 64"):
        planned("model.backbones_from=shipped", "model.language_model.source.hidden_size=64")


def test_shipped_backbones_serve_however_attention_is_computed():
    chain = planned("model.backbones_from=shipped", "model.language_model.attention=sdpa")
    assert [s.identity for s in chain[:2]] == [s.identity for s in planned()[:2]]
    assert chain[-1].identity != planned()[-1].identity


@pytest.mark.parametrize(
    ("word", "why"), [("seed=3", "seed: 0 and not 3"), ("model.language_model.attention=sdpa", "eager and not sdpa")]
)
def test_that_backbones_could_be_taken_from_the_package_is_told(word, why):
    settings, _ = compose_settings([word, "stage=align", "modality=image"])
    told = could_be_shipped(settings, planned(word, "stage=align", "modality=image"))
    assert told.startswith("pretrain_text and pretrain_contrast will be trained first; model.backbones_from=shipped ")
    assert told.endswith(why)
    alone = planned("stage=pretrain_text", word)
    assert could_be_shipped(settings, alone) is None, "it was asked for"
    other, _ = compose_settings(["model.language_model.source.hidden_size=64"])
    assert could_be_shipped(other, planned("model.language_model.source.hidden_size=64")) is None, "they do not fit"


def test_a_first_phase_is_the_same_run_under_every_rule_of_replay():
    """There is nothing to replay yet: arms that differ in the rule stand on one run."""
    groups = "curriculum.groups=[[image],[audio]]"
    rules = ([], ["stages.align.replay=none"], ["stages.align.replay=equal", "stages.align.replay_keep=total"])
    chains = [[s for s in planned("stage=align", groups, *rule) if s.new] for rule in rules]
    assert len({chain[0].identity for chain in chains}) == 1
    assert len({chain[1].identity for chain in chains}) == 3


def test_a_seed_is_no_setting_of_an_arm():
    with pytest.raises(ValueError, match="all arms have the same seeds"):
        study(arms={"one": [], "two": ["seed=1"]})


def written(folder, text):
    """A folder that holds a study.yaml of these lines."""
    (folder / "study.yaml").write_text(text)
    return folder


ONE = "title: One\nbase: [stage=align]\nbaseline: one\narms:\n  one: []\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            ONE + "  two:\n    part: [[a=1]]\n",
            "unknown key 'part' in {file}, arms.two: did you mean 'parts'? known: pa",
        ),
        (ONE.replace("baseline", "basline"), "unknown key 'basline' in {file}: did you mean 'baseline'? known: arms, "),
        (ONE + "curves: {axis: a, modality: b, lines: {c: {point: {}}}}\n", "unknown key 'point' in {file}, curves.li"),
        (ONE + "  two: a=1\n", "{file}: arms.two: an arm is a list of settings, as in [a=1], or a mapping of setting"),
        (ONE + "  two: {parts: [a=1]}\n", "{file}: arms.two.parts.0: should be a list, as in [a, b], got 'a=1'"),
        (
            ONE.replace("[stage=align]", "stage=align"),
            "{file}: base: should be a list, as in [a, b], got 'stage=align'",
        ),
        (ONE.replace("baseline: one", "baseline: oen"), "{file}: unknown arm 'oen' in baseline: did you mean 'one'? k"),
        (ONE + "quick: [noe]\n", "{file}: unknown arm 'noe' in quick: did you mean 'one'? known: one"),
        (ONE.replace("title: One\n", ""), "{file}: title: field required"),
        ("- a\n", "{file}: should be a mapping, got ['a']"),
        (ONE + "  two: [a\n", "{file} line 7 is not valid YAML: expected ',' or ']', but got '<stream end>'"),
    ],
)
def test_what_is_wrong_in_a_study_is_told_with_its_place_and_the_nearest_name(tmp_path, text, told):
    with pytest.raises(ModalignError) as error:
        load_study(written(tmp_path, text))
    assert str(error.value).startswith(told.format(file=tmp_path / "study.yaml"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (ONE + "  two: []\n  one: [a=1]\n", "line 7: the key 'one' is already on line 5"),
        (ONE + "  two: {settings: [], settings: [a=1]}\n", "line 6: the key 'settings' is already on line 6"),
        (ONE + "title: Two\n", "line 6: the key 'title' is already on line 1"),
    ],
)
def test_a_key_that_is_there_twice_is_told_with_both_lines(tmp_path, text, told):
    with pytest.raises(ModalignError, match=told) as error:
        load_study(written(tmp_path, text))
    assert str(tmp_path / "study.yaml") in str(error.value)


def test_a_mapping_that_takes_in_another_may_say_a_key_otherwise(tmp_path):
    text = ONE + "  two: &two {settings: [a=1], parts: [[b=1]]}\n  three: {<<: *two, settings: [a=2]}\n"
    assert load_study(written(tmp_path, text)).arms["three"].settings == ("a=2",)


@pytest.mark.parametrize(
    ("score", "told"),
    [
        (
            "caption/test/atribute_accuracy",
            "unknown metric 'atribute_accuracy' in .*: did you mean 'attribute_accuracy'",
        ),
        ("captoin/test/exact_match", "unknown task 'captoin' in .*: did you mean 'caption'"),
        ("answer/tset/exact_match", "unknown split 'tset' in .*: did you mean 'test'"),
        ("answer/test", "'answer/test' is no score: write task/split/metric"),
        ("caption/test/cider", "item by item, .*: write caption/test/attribute_accuracy"),
    ],
)
def test_a_score_that_no_run_has_or_that_cannot_be_compared_is_refused(score, told):
    with pytest.raises(ValueError, match=told):
        study(scores=[score])


def test_the_words_of_a_score_are_those_that_the_report_knows():
    assert (set(BY_ITEM), set(SPLITS), set(METRICS)) == (set(TASK_NAMES), set(SPLIT_NAMES), set(METRIC_NAMES))
    assert set(BY_ITEM.values()) == SHARES


def test_a_modality_that_the_settings_do_not_have_is_told():
    known = ("image", "audio", "imu")
    curves = {"axis": "samples", "modality": "imu answer", "lines": {}}
    check_modalities(study(modalities=["image", "image+audio"], curves=curves), known, "numbers")
    with pytest.raises(ModalignError, match=r"unknown modality 'audoi' in numbers: did you mean 'audio'\?"):
        check_modalities(study(modalities=["image", "image+audoi"]), known, "numbers")
    with pytest.raises(ModalignError, match=r"unknown modality 'imuu' in numbers: did you mean 'imu'\?"):
        check_modalities(study(curves=curves | {"modality": "imuu"}), known, "numbers")


@pytest.mark.parametrize("name", studies_of(EXPERIMENTS))
def test_the_baseline_of_a_shipped_study_is_a_command_that_can_be_planned(name):
    shipped = load_study(EXPERIMENTS / name)
    (command, *_) = commands_of(name, shipped, (shipped.baseline,), (1,), ())
    assert planned(*command.overrides)
    page = (EXPERIMENTS / name / "README.md").read_text()
    assert all(word in page for word in ("**Question.**", "**Prediction**", "<!-- result -->", "**Verdict.**"))


@pytest.mark.slow
@pytest.mark.parametrize("name", studies_of(EXPERIMENTS))
def test_every_arm_of_a_shipped_study_makes_runs_of_its_own(name):
    shipped = load_study(EXPERIMENTS / name)
    jobs = plan_jobs(commands_of(name, shipped, tuple(shipped.arms), (1,), ()))
    assert len({job.specs[-1].identity for job in jobs}) == len(jobs)


def test_fewer_training_samples_of_one_recipe_leave_the_runs_before_it_alone():
    order = ["stage=align", "curriculum.groups=[[image],[imu]]"]
    whole, few = planned(*order), planned(*order, "+data.train_samples.world_imu=30")
    assert [a.identity == b.identity for a, b in zip(whole, few, strict=True)] == [True, True, True, False]
    assert few[-1].steps == whole[-1].steps
    settings, _ = compose_settings([*order, "+data.train_samples.world_imu=30"])
    book = RecipeBook(settings)
    assert book.num_samples("world_imu", "train") == 30
    assert book.num_samples("world_imu", "test") == 320


def test_a_stream_cannot_be_cut_short():
    with pytest.raises(ModalignError, match="a stream is read as it comes"):
        planned("+data.train_samples.world_imu=30", "data.reader=webdataset")


def test_shipped_backbones_are_no_other_language_model_s_and_no_other_modality_set_s():
    with pytest.raises(ModalignError, match=r"belongs to the language model that ships, and .*source=/x names another"):
        planned("model.backbones_from=shipped", "model.language_model.source=/x")
    settings, _ = compose_settings(["stage=align", "modality=image", "seed=3"])
    without = {name: one for name, one in settings.modalities.items() if name != "image"}
    assert could_be_shipped(settings.model_copy(update={"modalities": without}), planned("seed=3")) is None
