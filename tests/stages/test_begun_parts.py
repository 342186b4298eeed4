"""A part that begins frozen is in no other run's checkpoint: its own phase keeps it, and later phases find it there."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from modalign.cli.main import main as verb
from modalign.config.compose import compose_settings
from modalign.config.planning import PlanningBook
from modalign.config.specs import Planner
from modalign.models import caption_start
from modalign.models.parts import part_of
from modalign.models.ridge import fit_ridge
from modalign.runs.checkpoint import load_checkpoint
from modalign.runs.folder import RunFolder
from modalign.runs.sealed import newest_valid
from modalign.stages.forecast.forecast import Forecaster
from modalign.stages.forecast.plan import engine_of
from modalign.stages.load_run import load_run
from modalign.stages.phase_run import Interrupted

FROZEN = ("stages.align.train=[projectors]",)  # as where the encoder's features are kept on disk
AUDIO = ("stage=align", "modality=audio", *FROZEN)
FMRI = ("stage=align", "modality=fmri", *FROZEN)


def held(run):
    return load_checkpoint(run.path / run.manifest().checkpoint["path"]).flat()


@pytest.fixture(scope="module")
def audio_frozen(backbones, image):
    return backbones.train(*AUDIO)


def test_its_phase_keeps_what_began_frozen_beside_what_trained(audio_frozen):
    trained = {part["name"] for part in audio_frozen.manifest().parts if part["trains"]}
    kept = {part_of(name) for name in held(audio_frozen)}
    assert kept - trained == {"tokenizers.audio", "positions.audio"}  # not image's, which the parent holds


@pytest.mark.parametrize("more", [("stage=align", "modality=image", *FROZEN), AUDIO, FMRI])
def test_a_plan_counts_what_begins_frozen_with_what_trains(backbones, audio_frozen, more):
    settings, _ = compose_settings(backbones.overrides(*more))
    book = PlanningBook(settings)
    chain = Planner(settings, book).plan()
    runs = {spec.identity: spec.folder(backbones.runs) for spec in chain}
    foreseen = Forecaster(settings, book, engine_of(settings.trainer), runs)(chain[-1]).checkpoint.weights
    assert foreseen == sum(t.numel() * t.element_size() for t in held(backbones.train(*more)).values())


def test_a_run_that_keeps_what_began_is_found_sound(audio_frozen, capsys):
    assert verb(["check", str(audio_frozen.path)]) == 0, capsys.readouterr().out


def test_a_backbone_keeps_nothing_but_what_it_trains(backbones):
    (text,) = backbones.runs.glob("pretrain_text-*")
    assert {part_of(name) for name in held(RunFolder(text))} == {"llm"}


def test_an_expert_that_noise_has_changed_is_kept_though_it_is_frozen(backbones, image):
    trains = "stages.align.train=[tokenizers,positions]"
    with_noise = backbones.phase("stage=align", "modality=audio", trains, "curriculum.expert_noise=0.02", parent=image)
    without = backbones.phase("stage=align", "modality=audio", trains, "curriculum.expert_noise=0", parent=image)
    assert "projectors.upm.experts.0" in with_noise.plan.begun
    assert "projectors.upm.experts.0" not in without.plan.begun
    assert "projectors.upm.experts.1" in without.plan.begun


def test_a_finished_run_is_loaded_with_the_values_it_was_trained_with(backbones, audio_frozen):
    began = backbones.phase(*AUDIO).model.state_dict()
    loaded = load_run(audio_frozen.path).model.state_dict()
    for name, tensor in loaded.items():
        if name.startswith(("tokenizers.audio.", "positions.audio.")):
            assert torch.equal(tensor, began[name]), name


def test_the_next_phase_goes_on_with_them_and_keeps_its_own_alone(backbones, audio_frozen):
    earlier = held(audio_frozen)
    phase = backbones.phase(*FMRI)
    state = phase.model.state_dict()
    random = [name for name in earlier if name.startswith("tokenizers.audio.")]
    assert random
    assert all(torch.equal(state[name], earlier[name]) for name in random)
    assert set(phase.plan.begun) == {"tokenizers.fmri", "positions.fmri"}


def test_what_was_fitted_and_then_frozen_is_kept_too(backbones, audio_frozen):
    began = backbones.phase(*FMRI)
    assert [c for c in began.copied if c.rule == "map_from_captions"]
    run = backbones.train(*FMRI)
    kept, loaded = held(run), load_run(run.path).model.state_dict()
    for name in ("tokenizers.fmri.linears.one.weight", "tokenizers.fmri.linears.two.bias"):
        assert torch.equal(kept[name], began.model.state_dict()[name])
        assert torch.equal(loaded[name], kept[name])


def test_a_run_that_goes_on_takes_its_fitted_parts_from_its_checkpoint(
    backbones, audio_frozen, tmp_path, monkeypatch, told_to_stop
):  # fmt: skip
    name = "tokenizers.fmri.linears.one.weight"
    earlier = [spec.folder(backbones.runs) for spec in backbones.specs(*FMRI)[:-1]]
    shop = backbones.elsewhere(tmp_path / "runs", *earlier)
    with told_to_stop(2), pytest.raises(Interrupted):
        shop.train(*FMRI)
    stopped = RunFolder(shop.specs(*FMRI)[-1].folder(shop.runs))
    kept = load_checkpoint(newest_valid(stopped.checkpoints)).flat()[name]

    def turned(*arguments):
        ridge = fit_ridge(*arguments)
        return replace(ridge, weight=-ridge.weight)

    monkeypatch.setattr(caption_start, "fit_ridge", turned)
    assert not torch.equal(shop.phase(*FMRI).model.state_dict()[name], kept)  # fitted again, it is another
    run = shop.train(*FMRI)
    assert torch.equal(held(run)[name], kept)
    unchanged = {part["name"]: part["unchanged"] for part in run.manifest().parts}
    assert unchanged["tokenizers.fmri"] is True
