"""Slices as training will see them: real words, shapes for media, and assumptions where there is nothing to count."""

import pytest
import torch

from modalign.config.planning import PlanningBook
from modalign.models.text_tokenizer import load_text_tokenizer
from modalign.stages.forecast.slices import EstimatedTokenizer, Slices, text_tokens
from modalign.stages.sources import SourceBook

ALIGN = ("stage=align", "modality=audio", "curriculum.groups=[[image],[audio]]")
RECIPE = """
name: {name}
title: {name}
source: somewhere
licence: MIT
task: {task}
media: {media}
splits: {{train: 100}}
folder: {name}
"""


def slices_of(phase, world_size=1):
    settings = phase.settings
    tokenizer = load_text_tokenizer(settings.model.text_tokenizer)
    return Slices(SourceBook(settings, PlanningBook(settings)), tokenizer, world_size)


def test_words_of_shards_are_those_that_training_reads_first(phase):
    real = phase(*ALIGN)
    real.sources.ensure(["world_audio"])
    slice_ = slices_of(real).first("world_audio", real.stage)
    positions = range(real.stage.slice_size)
    keys = [real.data.sources["world_audio"].sample(position).key for position in positions]
    assert slice_.words == "read"
    assert list(slice_.batch.keys) == keys
    assert slice_.batch.media["audio"].values.is_meta
    assert slice_.batch.media["audio"].values.shape == (real.stage.slice_size, 1, 32, 96)


def test_words_of_a_generated_recipe_without_shards_are_made(phase, tmp_path):
    real = phase(*ALIGN)
    real.sources.ensure(["world_audio"])
    read = slices_of(real).first("world_audio", real.stage)
    made = slices_of(phase(*ALIGN, f"paths.data={tmp_path}")).first("world_audio", real.stage)
    assert made.words == "made"
    assert torch.equal(made.batch.text_ids, read.batch.text_ids)


def test_one_of_several_processes_sees_its_share(phase):
    real = phase(*ALIGN)
    assert len(slices_of(real, 4).first("world_image", real.stage).batch.keys) == real.stage.slice_size // 4


@pytest.mark.parametrize(
    ("task", "media", "stage", "supervised"),
    [("caption", "{image: jpg}", "align", 7), ("conversation", "{}", "instruct", 9)],
)
def test_tokens_of_data_that_are_not_here_are_those_assumed(phase, tmp_path, task, media, stage, supervised):
    (tmp_path / "elsewhere.yaml").write_text(RECIPE.format(name="elsewhere", task=task, media=media))
    real = phase(*ALIGN, f"paths.recipes=[{tmp_path}]", "plan.assume={caption: 6, question: 5, answer: 8}")
    slices = Slices(SourceBook(real.settings, PlanningBook(real.settings)), EstimatedTokenizer(1000))
    slice_ = slices.first("elsewhere", real.settings.stages[stage])
    assert slice_.words == "assumed"
    _, told = text_tokens(slice_.batch)
    assert told == pytest.approx(supervised, abs=2)


def test_the_longest_slice_fills_the_text_that_is_allowed(phase):
    real = phase(*ALIGN, "model.max_text_tokens=50")
    batch = slices_of(real).longest("world_image", real.stage).batch
    length, supervised = text_tokens(batch)
    assert 45 <= length <= 51
    assert supervised >= 44


def test_a_decoder_that_does_not_tell_its_shape_is_asked_to(phase, tmp_path):
    (tmp_path / "elsewhere.yaml").write_text(RECIPE.format(name="elsewhere", task="caption", media="{image: jpg}"))
    real = phase(*ALIGN, f"paths.recipes=[{tmp_path}]")
    slices = slices_of(real)
    slices.sources._decoders["image"] = lambda data, rng: torch.zeros(3, 48, 48)
    with pytest.raises(Exception, match="does not state the shape"):
        slices.first("elsewhere", real.stage)
    # A sample of a generated recipe can be decoded instead.
    assert slices.shape("world_image", "image") == (3, 48, 48)


@pytest.mark.parametrize(("text", "count"), [("", 0), ("a", 1), ("word", 1), ("four words of it", 4)])
def test_an_absent_tokenizer_is_taken_to_need_a_token_for_four_characters(text, count):
    assert len(EstimatedTokenizer(10).encode(text)) == count
