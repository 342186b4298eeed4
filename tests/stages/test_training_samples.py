"""A recipe of which only some training samples are used: no other is ever read, and what is measured stays whole."""

from modalign.config.compose import compose_settings
from modalign.config.recipes import RecipeBook
from modalign.data.templates import CaptionTemplate
from modalign.stages.sources import SourceBook


def test_training_reads_the_first_samples_alone_and_measuring_reads_all(tiny_runs):
    settings, _ = compose_settings([*tiny_runs.settings, "+data.train_samples.world_video=5"])
    sources = SourceBook(settings, RecipeBook(settings))
    train = sources.source("world_video", "train", CaptionTemplate(), settings.stages["align"])
    assert {train.stream(position)[1] for position in range(60)} == set(range(5))
    test = sources.source("world_video", "test", CaptionTemplate())
    assert test.stream.n == len(test) > 5
