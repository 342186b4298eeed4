"""A warning where the language model cannot say a recipe's words."""

import logging

import pytest
import torch

from modalign.stages import speakable
from modalign.stages.speakable import caption_loss, warn_where_unspeakable


@pytest.fixture
def losses(monkeypatch):
    """Made-up losses by recipe, in nats a token."""
    given = {"world_text": 1.0, "world_image": 2.5, "world_audio": 3.5, "world_chat": 99.0}
    monkeypatch.setattr(speakable, "caption_loss", lambda model, sources, name, split: given[name])
    return given


def language_model(trains):
    model = torch.nn.Module()
    model.llm = torch.nn.Linear(2, 2).requires_grad_(trains)
    model.projectors = torch.nn.Linear(2, 2)
    return model


def test_captions_far_above_the_known_text_are_warned_of_by_recipe_and_number(backbones, image, losses, caplog):
    sources = backbones.sources()
    with caplog.at_level(logging.WARNING, "modalign.stages.speakable"):
        found = warn_where_unspeakable(
            language_model(trains=False), sources, ("world_image", "world_audio", "world_chat")
        )
    assert found["caption_loss"] == {"world_image": 2.5, "world_audio": 3.5}  # text alone has no captions
    assert found["unspeakable"] == [["world_audio", 3.5, 1.0]]
    (record,) = caplog.records
    assert "recipe world_audio" in record.getMessage()
    assert "3.50 nats a token, against 1.00" in record.getMessage()


def test_a_language_model_that_trains_learns_the_words_and_is_not_warned_of(backbones, image, losses, caplog):
    found = warn_where_unspeakable(language_model(trains=True), backbones.sources(), ("world_audio",))
    assert found == {"caption_loss": {"world_audio": 3.5}}
    assert not caplog.records


def test_without_a_known_text_nothing_is_said(backbones, losses, caplog):
    assert warn_where_unspeakable(None, backbones.sources("data.text_loss=null"), ("world_audio",)) == {}
    assert not caplog.records


def test_the_loss_of_a_recipe_is_that_of_its_captions_as_plain_text(backbones, image):
    """By hand: begin-of-sequence, then each caption with its end, every token counted alike."""
    phase = backbones.phase("stage=align", "modality=image")
    model, sources = phase.model.eval(), backbones.sources()
    source, total, count = sources.source("world_image", "val", speakable.TextTemplate()), 0.0, 0
    tokenizer = model.text_tokenizer
    for index in range(len(source)):
        record = source.record(source.reader.read(index))
        ids = [tokenizer.bos_id, *tokenizer.encode(record["captions"][0]), tokenizer.eos_id]
        with torch.no_grad():
            logits = model.llm.logits(model.llm.hidden(model.llm.embed(torch.tensor([ids]))))
        total += float(torch.nn.functional.cross_entropy(logits[0, :-1], torch.tensor(ids[1:]), reduction="sum"))
        count += len(ids) - 1
    assert caption_loss(model, sources, "world_image", "val") == pytest.approx(total / count, rel=1e-4)


def test_every_aligned_run_keeps_the_loss_of_its_captions(image):
    assert set(image.manifest().extra["caption_loss"]) == {"world_image"}
