"""An additive phase teaches a new sense and leaves everything learned before unchanged to the bit."""

import pytest
import torch

from modalign.models.parts import part_of
from modalign.runs.checkpoint import load_checkpoint
from modalign.runs.folder import RunFolder
from modalign.stages.load_run import load_run

NEW = "stages.align.train=new"


@pytest.fixture(scope="module")
def added(backbones, audio):
    """fMRI added to image and audio, which were aligned as usual."""
    return backbones.train("stage=align", "modality=fmri", NEW)


def logits(folder, batch):
    model = load_run(folder.path).model
    with torch.no_grad():
        return model.llm.logits(model.hidden(model.compose(batch)))


def trained(folder):
    checkpoint = folder.path / folder.manifest().checkpoint["path"]
    return {part_of(name) for name in load_checkpoint(checkpoint, with_state=False).flat()}


def test_only_the_new_modality_s_own_parts_train(added):
    assert trained(added) == {
        "tokenizers.fmri", "positions.fmri", "projectors.upm.ports.fmri", "projectors.upm.router.fmri",
    }  # fmt: skip
    assert all(p["unchanged"] for p in added.manifest().parts if not p["trains"])


def test_earlier_senses_say_the_same_to_the_bit(backbones, audio, added):
    """The same batches through the parent and the child; after a phase with replay they would differ."""
    batches = backbones.phase("stage=align", "modality=audio").slices(2)
    assert {name for batch in batches for name in batch.media} == {"image", "audio"}
    for batch in batches:
        assert torch.equal(logits(audio, batch), logits(added, batch))
    replayed = backbones.train("stage=align", "modality=fmri")
    assert not torch.equal(logits(audio, batches[0]), logits(replayed, batches[0]))


def test_no_earlier_data_is_read(added):
    assert set(added.manifest().recipes) == {"world_fmri"}
    assert added.manifest().consumed == {"world_fmri": 32}


def test_it_stands_on_the_curriculum_as_it_was_taught(backbones, audio, added):
    """Asking for an additive phase does not make another run of every phase before it."""
    assert added.manifest().parent["name"] == audio.name
    usual, additive = (
        backbones.specs("stage=align", "modality=fmri"),
        backbones.specs("stage=align", "modality=fmri", NEW),
    )
    assert [s.identity for s in usual[:-1]] == [s.identity for s in additive[:-1]]
    assert usual[-1].identity != additive[-1].identity


def test_directly_after_the_first_phase_no_expert_is_added(backbones, image):
    """The first phase has one expert: copies of it beside a router would change what image says."""
    spec = backbones.specs("stage=align", "modality=audio", NEW)[-1]
    assert spec.num_experts == 1
    run = backbones.train("stage=align", "modality=audio", NEW)
    assert trained(run) == {"tokenizers.audio", "positions.audio", "projectors.upm.ports.audio"}
    batch = backbones.phase("stage=align", "modality=image").slices(1)[0]
    assert torch.equal(logits(image, batch), logits(run, batch))


def test_a_whole_curriculum_of_additive_phases_teaches_its_first_sense_in_full(backbones):
    specs = [s for s in backbones.specs("stage=align", NEW) if s.stage == "align"]
    assert [spec.train for spec in specs] == [("tokenizers", "positions", "projectors"), "new", "new"]
    assert specs[0].identity == backbones.specs("stage=align", "modality=image")[-1].identity
    assert [spec.recipes for spec in specs[1:]] == [("world_audio",), ("world_fmri",)]


def test_what_the_new_sense_trained_is_found_again(added):
    loaded = load_run(RunFolder(added.path).path)
    weights = loaded.model.state_dict()
    kept = load_checkpoint(added.path / added.manifest().checkpoint["path"], with_state=False).flat()
    assert all(torch.equal(weights[name], tensor) for name, tensor in kept.items())
