"""A run on kept outputs ends with the weights of the live run; `auto` measures once and keeps its choice."""

import pytest
import torch

from modalign.stages import feature_trial
from modalign.stages.feature_cache import FeatureCache
from modalign.stages.feature_trial import Trial, place_is_nothing
from modalign.stages.phase_run import Interrupted
from modalign.types import MediaBatch

# 96 samples of a mixture whose 48 pictures come more than twice.
TUNE = (
    "stage=instruct", "modality=[image]", "stages.instruct.steps=14", "data.instruct.world_image=20",
    "trainer.checkpoint_every=100",
)  # fmt: skip


def kept_in(folder, setting="on"):
    return f"data.feature_cache={setting}", f"data.feature_cache_folder={folder}"


def record(folder):
    return folder.manifest().extra["feature_cache"]


@pytest.fixture(scope="module")
def live(backbones, image):
    """The run as it is without a cache."""
    return backbones.train(*TUNE)


def test_runs_that_fill_and_read_the_cache_end_as_the_live_run(live, own_shop, tmp_path):
    assert "feature_cache" not in live.manifest().extra
    wanted = live.manifest().checkpoint
    filled = own_shop().train(*TUNE, *kept_in(tmp_path))
    assert filled.manifest().checkpoint == wanted
    told = record(filled)
    assert told["outputs"] == {"image": "soft_tokens"}
    assert told["recipes"]["world_image"] == {"use": True}
    assert told["samples"]["computed"] >= 48
    assert told["samples"]["read"] > 0

    again = own_shop().train(*TUNE, *kept_in(tmp_path))
    assert again.manifest().checkpoint == wanted
    assert record(again)["samples"] == {"read": sum(told["samples"].values()), "computed": 0}


@pytest.mark.slow
def test_a_run_that_finds_every_entry_damaged_ends_as_the_live_run(live, own_shop, tmp_path):
    own_shop().train(*TUNE, *kept_in(tmp_path))
    for file in tmp_path.glob("[0-9a-f]*"):
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
    mended = own_shop().train(*TUNE, *kept_in(tmp_path), "data.workers=1")
    assert mended.manifest().checkpoint == live.manifest().checkpoint
    assert record(mended)["samples"]["computed"] >= 48


@pytest.mark.slow
def test_a_stopped_run_goes_on_with_its_choice_and_ends_as_the_live_run(
    live, own_shop, tmp_path, monkeypatch, told_to_stop
):  # fmt: skip
    asked = []

    def measured(*arguments):
        asked.append(arguments)
        return Trial(1.0, 0.1, 0.1, 100.0, 2.0, 0.0)

    monkeypatch.setattr("modalign.stages.feature_cache.measure", measured)
    shop, more = own_shop(), (*TUNE, *kept_in(tmp_path, "auto"))
    with told_to_stop(9), pytest.raises(Interrupted):
        shop.train(*more)
    count = len(asked)
    assert count >= 1
    folder = shop.train(*more)
    assert len(asked) == count
    told = record(folder)["recipes"]["world_image"]
    assert told["use"] is True
    assert "1000 ms a slice live, 100 ms kept" in told["why"]
    assert folder.manifest().checkpoint == live.manifest().checkpoint


def test_auto_measures_both_ways_and_writes_down_what_it_found(own_shop, tmp_path):
    folder = own_shop().train(*TUNE[:2], "stages.instruct.steps=2", *kept_in(tmp_path, "auto"))
    told = record(folder)["recipes"]["world_image"]
    assert told["use"] is False  # two steps do not come back to a sample
    assert told["measured"]["live_s"] > 0
    assert told["measured"]["kept_s"] > 0
    assert told["measured"]["passes"] < 1
    assert record(folder)["samples"]["read"] == 0


@pytest.mark.slow
def test_a_recipe_that_the_bound_cannot_hold_is_computed_live(own_shop, tmp_path):
    more = (*kept_in(tmp_path, "auto"), "data.feature_cache_gb=1e-6")
    folder = own_shop().train(*TUNE[:2], "stages.instruct.steps=8", *more)
    assert "do not fit into feature_cache_gb=1e-06" in record(folder)["recipes"]["world_image"]["why"]


def test_augmented_and_trained_paths_are_computed_live_and_said_to_be(backbones, image, tmp_path):
    noise = "+modalities.image.augment=[{_target_: modalign.data.augment.Noise, std: 0.1}]"
    cases = {"random": (*TUNE, noise), "something that trains": ("stage=align", "modality=image")}
    for reason, more in cases.items():
        more, records = (*more, *kept_in(tmp_path)), []
        phase = backbones.phase(*more, parent=image)
        phase.fit(FeatureCache(backbones.sources(*more).settings, phase.data, None, records.append), steps=1)
        assert reason in records[-1]["live"]["image"]
        assert records[-1]["samples"]["read"] == 0
        assert not records[-1]["outputs"]
    assert not list(tmp_path.glob("[0-9a-f]*"))


def test_keeping_pays_where_reading_saves_more_than_writing_costs():
    assert Trial(1.0, 0.1, 0.2, 1.0, passes=2.0, held=0.0).pays
    assert not Trial(1.0, 0.1, 0.2, 1.0, passes=1.0, held=0.0).pays
    assert Trial(1.0, 0.1, 0.2, 1.0, passes=1.0, held=1.0).pays
    assert not Trial(0.1, 0.2, 0.0, 1.0, passes=9.0, held=1.0).pays


@pytest.mark.parametrize(
    ("compute", "expected"),
    [
        (lambda x: x * 2, True),
        (lambda x: x + torch.arange(len(x))[:, None] * 1e-6, False),  # its place
        (lambda x: x - x.mean(dim=0), False),  # its company
        (lambda x: x * (1 + 1e-6 * (torch.arange(len(x)) == len(x) - 1)[:, None]), False),  # the last place alone
    ],
)
def test_a_bit_that_hangs_on_place_or_company_is_seen(compute, expected):
    random = torch.Generator().manual_seed(0)
    media = [MediaBatch(torch.randn(6, 32, generator=random)) for _ in range(2)]
    assert place_is_nothing(lambda batch: compute(batch.values), *media) is expected


@pytest.mark.slow
def test_where_place_decides_bits_a_modality_is_computed_live(live, own_shop, tmp_path, monkeypatch):
    monkeypatch.setattr(feature_trial, "place_is_nothing", lambda *_: False)
    folder = own_shop().train(*TUNE, *kept_in(tmp_path))
    assert "depend on its place in a slice" in record(folder)["live"]["image"]
    assert folder.manifest().checkpoint == live.manifest().checkpoint
