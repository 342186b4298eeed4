"""A stage that trains adapters: the language model stays as it was, a checkpoint holds them alone, runs are shared."""

from __future__ import annotations

import pytest
import torch

from modalign.errors import ModalignError
from modalign.runs.checkpoint import load_checkpoint
from modalign.runs.lineage import load_assembled, run_checkpoint
from modalign.stages.load_run import load_run

TUNE = ("stage=instruct", "modality=image")
LORA = ("stages.instruct.train=[llm.lora]", "model.language_model.lora={rank: 2}")


@pytest.fixture(scope="module")
def tuned(backbones, image):
    return backbones.train(*TUNE, *LORA)


def test_the_adapters_trained_and_the_language_model_is_proved_unchanged(tuned):
    parts = {part["name"]: part for part in tuned.manifest().parts}
    assert [name for name, part in parts.items() if part["trains"]] == ["llm.lora"]
    assert parts["llm.lora"]["gradient"] == "ok"
    assert parts["llm"]["unchanged"]
    assert parts["llm.lora"]["parameters"] < parts["llm"]["parameters"] / 10


def test_the_checkpoint_holds_the_adapters_alone(tuned):
    checkpoint = load_checkpoint(run_checkpoint(tuned.path))
    assert list(checkpoint.tensors) == ["llm.lora"]
    assert all("lora_" in name for name in checkpoint.flat())


def test_a_finished_run_is_its_lineages_language_model_with_its_own_adapters(tuned, image):
    model, before = load_run(tuned.path).model, load_run(image.path).model
    ours = model.state_dict()
    assert all(torch.equal(ours[name], tensor) for name, tensor in before.state_dict().items())
    trained = load_assembled(tuned.path)
    adapters = {name for name in ours if "lora_" in name}
    assert adapters == {name for name in trained if "lora_" in name}
    assert any(bool(ours[name].abs().sum()) for name in adapters if "lora_B" in name)
    ids = torch.arange(8)[None]
    assert not torch.equal(model.llm.hidden(model.llm.embed(ids)), before.llm.hidden(before.llm.embed(ids)))


def test_declaring_adapters_changes_no_run_that_does_not_train_them(backbones):
    plain, declared = backbones.specs(*TUNE), backbones.specs(*TUNE, LORA[1])
    assert [spec.identity for spec in plain] == [spec.identity for spec in declared]
    with_adapters = backbones.specs(*TUNE, *LORA)
    assert [s.identity for s in with_adapters[:-1]] == [s.identity for s in plain[:-1]]
    assert [s.adapters for s in with_adapters] == [False] * (len(plain) - 1) + [True]
    other = backbones.specs(*TUNE, LORA[0], "model.language_model.lora={rank: 4}")
    assert len({plain[-1].identity, with_adapters[-1].identity, other[-1].identity}) == 3


def test_adapters_that_are_not_declared_are_told_with_what_declares_them(backbones):
    with pytest.raises(ModalignError, match=r"stages\.instruct\.train: llm\.lora: .* 'model\.language_model\.lora="):
        backbones.specs(*TUNE, LORA[0])
    with pytest.raises(ModalignError, match=r"unknown part 'llm\.layers' in stages\.instruct\.train"):
        backbones.specs(*TUNE, "stages.instruct.train=[llm.layers]")


def test_adapters_and_the_rest_of_the_language_model_may_train_together(backbones, image):
    phase = backbones.phase(*TUNE, "stages.instruct.train=[llm, llm.lora]", LORA[1])
    assert set(phase.plan.trains) == {"llm", "llm.lora"}
