"""The file of a study, the commands that it stands for, and the backbones that all of its runs stand on."""

from pathlib import Path

import pytest

from modalign.cli.ablate_jobs import plan_jobs
from modalign.config.compose import compose_settings
from modalign.config.places import shipped_runs
from modalign.config.recipes import RecipeBook
from modalign.config.shipped import could_be_shipped
from modalign.config.specs import Planner
from modalign.config.study import Study, commands_of, load_study, studies_of
from modalign.errors import ModalignError

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
