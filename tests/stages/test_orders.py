"""Which samples a phase reads: replay brings others than those that the phase before has read."""

from modalign.config.compose import compose_settings
from modalign.config.recipes import RecipeBook
from modalign.config.specs import Planner
from modalign.data.templates import CaptionTemplate
from modalign.stages.sources import SourceBook


def planned(*words):
    settings, _ = compose_settings(words)
    return settings, Planner(settings, RecipeBook(settings)).plan()


def test_a_phase_that_stands_on_others_draws_an_order_of_its_own(tiny_runs):
    settings, specs = planned("stage=align", *tiny_runs.settings)
    sources = SourceBook(settings, RecipeBook(settings))
    orders = {}
    for spec in specs:
        if spec.new:
            stage = settings.stages[spec.stage]
            source = sources.source("world_image", "train", CaptionTemplate(), stage, spec.drawn)
            orders[spec.new] = [source.stream(position) for position in range(12)]
    assert len({tuple(order) for order in orders.values()}) == len(orders) > 1
    plain = sources.source("world_image", "train", CaptionTemplate(), settings.stages["align"])
    assert orders[("image",)] == [plain.stream(position) for position in range(12)]


def test_how_samples_are_read_makes_another_run():
    _, indexed = planned("stage=align", "modality=audio")
    _, streamed = planned("stage=align", "modality=audio", "data.reader=webdataset")
    assert indexed[-1].identity != streamed[-1].identity
    assert "reader" not in indexed[-1].meaning


def test_backbones_that_ship_are_what_they_were():
    _, specs = planned("stage=align", "modality=audio")
    drawn = {spec.stage: spec.drawn for spec in specs}
    assert drawn["pretrain_contrast"] == ""
    assert [spec.drawn for spec in specs if spec.stage == "align"] == ["", "align audio"]
