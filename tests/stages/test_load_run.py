"""A finished run as a model again: every tensor accounted for, nothing trainable, the parent's values kept."""

import pytest
import torch

from modalign.errors import ModalignError
from modalign.models.parts import parts, state_by_part
from modalign.runs.lineage import load_assembled
from modalign.stages.load_run import fill, load_run, measured_sources, settings_of
from modalign.stages.weights import from_elsewhere


@pytest.fixture(scope="module")
def loaded(tiny_runs):
    return load_run(tiny_runs.video)


def test_the_model_holds_what_its_lineage_trained(loaded, tiny_runs):
    tensors = load_assembled(tiny_runs.video)
    held = {n: t for named in state_by_part(loaded.model, parts(loaded.model)).values() for n, t in named.items()}
    assert held.keys() <= tensors.keys()
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in held.items())


def test_the_model_is_at_rest_and_knows_its_senses(loaded):
    assert not loaded.model.training
    assert not any(p.requires_grad for p in loaded.model.parameters())
    assert loaded.spec.modalities == ("image", "video")
    assert loaded.spec.stage == "align"
    assert set(loaded.model.paths) == {"image", "video"}


def test_the_first_phase_is_loaded_with_its_one_expert(tiny_runs):
    assert load_run(tiny_runs.image).model.projectors["upm"].num_experts == 1


def test_a_part_that_no_run_of_the_lineage_holds_is_an_error(loaded, tiny_runs):
    tensors = load_assembled(tiny_runs.video)
    some = {name: tensor for name, tensor in tensors.items() if not name.startswith("encoders.")}
    with pytest.raises(ModalignError, match=r"holds part encoders\.clip"):
        fill(loaded.model, some, (), "it")
    fill(loaded.model, some, ("encoders.clip",), "it")
    del tensors[next(name for name in tensors if name.startswith("projectors.upm.experts.1."))]
    with pytest.raises(ModalignError, match=r"part projectors\.upm\.experts\.1 lacks"):
        fill(loaded.model, tensors, (), "it")


def test_weights_by_name_need_no_run_that_holds_them(loaded):
    settings = loaded.settings
    assert from_elsewhere(settings) == ()
    language_model = {**settings.model.language_model, "source": "some/model"}
    encoders = {"clip": {**settings.model.encoders["clip"], "pretrained": "tag"}}
    named = settings.model.model_copy(update={"language_model": language_model, "encoders": encoders})
    assert from_elsewhere(settings.model_copy(update={"model": named})) == ("encoders.clip", "llm")


def test_settings_of_another_version_are_told_in_one_line(loaded):
    manifest = loaded.manifest
    config = {**manifest.config, "evaluation": {**manifest.config["evaluation"], "colour": "red"}}
    changed = type(manifest)(**{f: getattr(manifest, f) for f in manifest.__slots__} | {"config": config})
    with pytest.raises(ModalignError, match=r"settings this one does not read: evaluation\.colour"):
        settings_of(changed)


def test_what_measuring_reads_is_there(loaded):
    sources = measured_sources(loaded)
    assert len(sources.source("world_video", "test", None)) > 0
