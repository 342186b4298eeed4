"""The order of slices: the mixture's shares, what is consumed, where a resumed phase goes on."""

from fractions import Fraction
from types import SimpleNamespace

import pytest
import torch

from modalign.curriculum.schedule import SliceSchedule
from modalign.data.ahead import Ahead
from modalign.errors import ModalignError
from modalign.stages.datamodule import CurriculumData, SlicesFrom


def data_of(shares, slice_size=4, slices_per_step=1, steps=10):
    return CurriculumData({}, shares, slice_size, slices_per_step, steps, None, seed=3)


def trainer(world_size=1, step=0):
    return SimpleNamespace(
        world_size=world_size, global_rank=0, global_step=step,
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )  # fmt: skip


def test_consumed_samples_are_whole_slices_of_each_source():
    data = data_of({"new": Fraction(1, 2), "old": Fraction(1, 4), "older": Fraction(1, 4)}, slices_per_step=2)
    assert data.consumed(10) == {"new": 40, "old": 20, "older": 20}
    assert sum(data.consumed(3).values()) == 3 * 2 * 4


def test_what_is_said_to_be_consumed_is_what_was_served(backbones, image):
    phase = backbones.phase("stage=align", "modality=audio", "stages.align.steps=3", parent=image)
    served: dict[str, int] = {}
    for batch in phase.slices(phase.spec.steps):
        served[batch.source] = served.get(batch.source, 0) + len(batch.keys)
    assert served == phase.data.consumed(phase.spec.steps) == {"world_audio": 24, "world_image": 24}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("balanced", {"world_fmri": 48, "world_image": 24, "world_audio": 24}),
        ("equal", {"world_fmri": 48, "world_image": 48, "world_audio": 48}),
        ("ratio:0.25", {"world_fmri": 48, "world_image": 8, "world_audio": 8}),
        ("none", {"world_fmri": 48}),
    ],
)
def test_replay_adds_samples_and_leaves_the_number_of_new_ones(backbones, rule, expected):
    more = ("stage=align", "modality=fmri", f"stages.align.replay={rule}", "stages.align.steps=6")
    spec = backbones.specs(*more)[-1]
    assert data_of(spec.shares, 8, 1, spec.steps).consumed(spec.steps) == expected


def test_by_option_replay_takes_the_place_of_new_samples(backbones):
    more = ("stage=align", "modality=fmri", "stages.align.replay_keep=total", "stages.align.steps=8")
    spec = backbones.specs(*more)[-1]
    counts = data_of(spec.shares, 8, 1, spec.steps).consumed(spec.steps)
    assert counts == {"world_fmri": 32, "world_image": 16, "world_audio": 16}


def test_a_resumed_phase_goes_on_with_the_next_slice():
    data = data_of({"a": Fraction(1)}, slices_per_step=2)
    data.trainer = trainer(step=4)
    sampler = data.train_dataloader().sampler
    assert list(sampler)[:3] == [8, 9, 10]
    assert list(sampler)[-1] == 19
    assert len(sampler) == 20  # Lightning counts the batches before it too


def test_slices_from_the_start_are_all_slices():
    assert list(SlicesFrom(0, 5)) == [0, 1, 2, 3, 4]
    assert list(SlicesFrom(5, 5)) == []


def test_a_slice_that_does_not_divide_among_the_processes_is_an_error_before_training():
    data = data_of({"a": Fraction(1)}, slice_size=6)
    data.trainer = trainer(world_size=4)
    with pytest.raises(ModalignError, match=r"slice_size=6 does not divide among 4 processes"):
        data.setup("fit")
    data.trainer = trainer(world_size=3)
    data.setup("fit")


def test_the_order_is_the_schedule_s_whatever_the_slices_a_step():
    shares = {"new": Fraction(1, 2), "old": Fraction(1, 2)}
    one, two = data_of(shares, slices_per_step=1), data_of(shares, slices_per_step=2)
    reference = SliceSchedule(shares, 3)
    for n in range(20):
        assert one.schedule.at(n) == two.schedule.at(n) == reference.at(n)


def test_a_phase_whose_slices_are_made_ahead_ends_with_the_same_bits(backbones, image):
    def trained(*settings):
        phase = backbones.phase("stage=align", "modality=audio", "stages.align.steps=3", *settings, parent=image)
        phase.fit()
        return phase

    plain, threaded = trained(), trained("data.ahead=2")
    assert isinstance(threaded.data.train_dataloader(), Ahead)
    assert plain.spec.identity == threaded.spec.identity
    before, after = plain.model.state_dict(), threaded.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_thread_makes_slices_only_where_no_worker_does_and_nothing_is_kept():
    shelved = SimpleNamespace(shelves={"image": None})
    for sources, workers in (({}, 2), ({"a": shelved}, 0)):
        data = CurriculumData(sources, {"a": Fraction(1)}, 4, 1, 10, None, workers=workers, ahead=2)
        data.trainer = trainer()
        assert not isinstance(data.train_dataloader(), Ahead)
