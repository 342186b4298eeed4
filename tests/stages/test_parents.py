"""A run stands on the parent that it began with: continued, reused, or begun anew beside it."""

from types import SimpleNamespace

import pytest

from modalign.errors import ModalignError
from modalign.runs.folder import RunFolder
from modalign.runs.interrupt import Interrupted
from modalign.runs.manifest import read_manifest, write_manifest
from modalign.stages.phase_run import PhaseRun

AUDIO = ("stage=align", "modality=audio", "evaluation.forward_items=0")
BOTH = ("stage=align", "curriculum.groups=[[image],[audio]]", "evaluation.forward_items=0")


def with_another_parent(folder):
    """As if its parent had been trained again since, to other weights."""
    manifest = read_manifest(folder)
    manifest.parent = {**manifest.parent, "digest": "0" * 64}
    write_manifest(folder, manifest)


def test_an_unfinished_run_does_not_go_on_on_another_parent(own_shop, audio, told_to_stop):
    shop = own_shop()
    with told_to_stop(2), pytest.raises(Interrupted):
        shop.train(*AUDIO)
    with_another_parent(shop.runs / audio.name)
    with pytest.raises(ModalignError, match=f"parent altered: run {audio.name} was trained on .*remove the folder of"):
        shop.train(*AUDIO)
    assert read_manifest(shop.runs / audio.name).status == "interrupted"


def test_a_finished_phase_counts_only_on_the_phase_before_it(own_shop):
    shop = own_shop()
    made = shop.train(*BOTH)
    assert shop.train(*BOTH).path == made.path
    with_another_parent(made.path)
    for words in (BOTH, (*BOTH, "curriculum.groups=[[image],[audio],[fmri]]")):
        with pytest.raises(ModalignError, match=f"parent altered: run {made.name} was trained on"):
            shop.train(*words)
    assert not list(shop.runs.glob("align-fmri-*"))


def test_fresh_goes_on_with_a_stopped_phase_on_the_phases_made_with_it(own_shop, image, audio, told_to_stop):
    shop = own_shop()
    first = shop.train(*BOTH)
    begun = {path.name for path in shop.runs.glob("align-*")}
    stopping = told_to_stop(2)
    words = (*BOTH, "fresh=true")
    steps = []

    def stop_in_audio(self, *rest):
        steps.append(self.spec.name)
        if self.spec.new == ("audio",) and steps.count(self.spec.name) == 1:
            with stopping:
                return train(self, *rest)
        return train(self, *rest)

    train = PhaseRun._train
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PhaseRun, "_train", stop_in_audio)
        with pytest.raises(Interrupted):
            shop.train(*words)
    shop.train(*words)
    made = {path.name for path in shop.runs.glob("align-*")} - begun
    assert made == {f"{image.name}-2", f"{first.name}-2"}
    again = read_manifest(shop.runs / f"{first.name}-2")
    assert again.status == "finished"
    assert again.parent["path"] == f"../{image.name}-2"


def test_a_run_that_another_command_has_finished_meanwhile_is_taken_as_it_is(image):
    phase = SimpleNamespace(folder=image, parent=None, spec=SimpleNamespace(identity=image.manifest().identity))
    assert PhaseRun._made_meanwhile(phase).status == "finished"
    other = SimpleNamespace(folder=RunFolder(image.path), parent=None, spec=SimpleNamespace(identity="0" * 64))
    assert PhaseRun._made_meanwhile(other) is None
