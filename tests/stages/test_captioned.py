"""Where a tokenizer's start from captions gets its samples, and that a phase starts from them."""

from __future__ import annotations

import logging

import pytest
import torch

from modalign.errors import BadSample, ModalignError
from modalign.stages import captioned as module
from modalign.stages.captioned import captioned

FMRI = ("stage=align", "modality=fmri")


@pytest.fixture
def sources(backbones):
    made = backbones.sources()
    made.ensure(["world_fmri", "world_image", "world_pairs_image_audio"])
    return made


def test_every_training_sample_of_the_sense_alone_is_given_as_it_is_without_augmentation(sources, backbones):
    found = captioned(sources, ["world_image", "world_fmri", "world_pairs_image_audio"], "fmri")
    plain = backbones.sources("modalities.fmri.augment=[]")
    assert len(found) == sources.book.num_samples("world_fmri", "train")
    for one, other in zip(found, captioned(plain, ["world_fmri"], "fmri"), strict=True):
        assert torch.equal(one.values, other.values)
        assert (one.variant, one.caption) == (other.variant, other.caption)
        assert one.variant in ("one", "two")
        assert one.caption


def test_of_many_samples_some_are_drawn_of_every_variant(sources, monkeypatch):
    every = [e.caption for e in captioned(sources, ["world_fmri"], "fmri")]
    monkeypatch.setattr(module, "MOST", len(every) // 4)
    some = captioned(sources, ["world_fmri"], "fmri")
    assert len(some) == 2 * (len(every) // 4)  # of two subjects, which take turns on disk
    assert {e.variant for e in some} == {"one", "two"}
    places = [every.index(e.caption) for e in some]
    assert places == sorted(places)
    assert [e.caption for e in captioned(sources, ["world_fmri"], "fmri")] == [e.caption for e in some]


def test_samples_that_training_is_denied_are_not_fitted_either(sources, backbones):
    few = captioned(backbones.sources("+data.train_samples.world_fmri=5"), ["world_fmri"], "fmri")
    every = captioned(sources, ["world_fmri"], "fmri")
    assert [e.caption for e in few] == [e.caption for e in every[:5]]
    assert len(every) > 5


def test_bad_samples_are_left_out_and_counted(sources, monkeypatch, caplog):
    original = module.CaptionTemplate
    source = sources.source("world_fmri", "train", original())
    bad = source.media(1)[0]
    media = type(source).media

    def spoilt(self, index, rng=None):
        if index == 1:
            raise BadSample(bad, "no .npy member")
        key, spans, record = media(self, index, rng)
        words = {2: {"caption": None, "captions": None}, 3: {"caption": " ", "captions": None}}
        return key, spans, {**record, **words.get(index, {})}

    monkeypatch.setattr(type(source), "media", spoilt)
    with caplog.at_level(logging.WARNING):
        found = captioned(sources, ["world_fmri"], "fmri")
    assert len(found) == len(source) - 3
    assert f"fmri: 3 samples are left out of its start from captions, sample {bad}: no .npy member" in caplog.text


def test_without_any_sample_of_the_sense_alone_the_setting_is_named(sources):
    with pytest.raises(ModalignError, match=r"modalities\.audio\.tokenizer\.start=captions: no training sample"):
        captioned(sources, ["world_pairs_image_audio"], "audio")


def test_a_sense_without_captions_of_its_own_is_told_before_anything_trains(backbones, monkeypatch):
    monkeypatch.setattr(module, "caption_of", lambda record: "")
    before = set(backbones.runs.iterdir())
    with pytest.raises(ModalignError, match=r"start=captions: no training sample .*its caption is empty\): mend them"):
        backbones.train(*FMRI, "stages.align.steps=3")
    assert set(backbones.runs.iterdir()) == before


def test_a_phase_starts_from_its_captions_and_its_manifest_says_so(backbones, audio):
    phase = backbones.phase(*FMRI, parent=audio)
    plain = backbones.phase(*FMRI, "modalities.fmri.tokenizer.start=null", parent=audio)
    (one, two) = [c for c in phase.copied if c.rule == "map_from_captions"]
    assert "captions (penalty" in one.source
    assert "captions (penalty" in two.source
    for name, tensor in phase.model.state_dict().items():
        fitted = name.startswith("tokenizers.fmri.linears.")
        assert torch.equal(tensor, plain.model.state_dict()[name]) != fitted, name


def test_what_an_earlier_phase_has_learned_is_not_fitted_again(backbones, image, audio):
    added = backbones.train(*FMRI)
    again = backbones.phase(*FMRI, "stages.align.steps=5", parent=added)
    assert not [c for c in again.copied if c.rule == "map_from_captions"]


def test_a_first_phase_without_a_parent_starts_as_declared(backbones, image):
    (words,) = backbones.runs.glob("pretrain_text-*/tokenizer/tokenizer.json")
    first = backbones.phase("stage=align", "modality=image", "model.backbones=[]", f"model.text_tokenizer={words}")
    assert first.spec.parent is None
    weights = first.model.state_dict()
    assert torch.equal(weights["tokenizers.visual.conv.weight"], weights["encoders.clip.patch_weight"])
