"""The published step computes what ours does, on less than ours has to be compared with it."""

import pytest
import torch

from modalign.bench import steps
from modalign.bench.examine import agree, relative
from modalign.bench.published import padded_text
from modalign.bench.subject import ALIGN, INSTRUCT, RELEASED
from modalign.errors import ModalignError


@pytest.mark.parametrize(("parts", "length"), [(ALIGN, 16), (INSTRUCT, 40), (RELEASED, None)])
def test_the_published_step_has_our_loss_and_our_gradients(setting, parts, length):
    batch = setting.step.conversations(3)
    ours = steps.ours(setting.step, parts, batch, False).examined()
    peer = steps.published(setting.step, parts, batch, length, False).examined()
    assert agree(ours, peer, False, "test").startswith("loss ")
    assert ours.gradients.keys() == peer.gradients.keys()
    assert ours.loss == pytest.approx(peer.loss, rel=1e-6)


def test_padding_changes_what_is_computed_and_not_what_comes_out(setting):
    batch = setting.step.captions(0)
    short, long = (steps.published(setting.step, ALIGN, batch, n, False).examined() for n in (None, 16))
    assert long.flops > short.flops
    assert long.loss == pytest.approx(short.loss, rel=1e-6)


def test_a_frozen_language_model_costs_less_than_a_trained_one(setting):
    batch = setting.step.captions(0)
    frozen, trained = (steps.published(setting.step, parts, batch, 16, False).examined() for parts in (ALIGN, RELEASED))
    assert frozen.flops < trained.flops
    assert frozen.peak_bytes < trained.peak_bytes


def test_a_peer_that_computes_something_else_is_not_timed(setting):
    ours = steps.ours(setting.step, ALIGN, setting.step.captions(0), False).examined()
    other = steps.published(setting.step, ALIGN, setting.step.captions(1), 16, False).examined()
    with pytest.raises(ModalignError, match="do not compute the same"):
        agree(ours, other, False, "align")


def test_steps_that_are_timed_leave_the_weights_as_they_were(setting):
    before = [p.detach().clone() for p in setting.step.model.parameters()]
    step = steps.ours(setting.step, RELEASED, setting.step.captions(0), False)
    step.prepare()
    step()
    step()
    assert all(torch.equal(a, b) for a, b in zip(before, setting.step.model.parameters(), strict=True))


def test_labels_of_the_peer_are_our_supervised_words_in_place(setting):
    batch = setting.step.conversations(0)
    ids, labels = padded_text(batch, 40)
    assert ids.shape == labels.shape == (len(batch.keys), 40)
    assert int((labels >= 0).sum()) == int((batch.loss_weights > 0).sum())
    assert torch.equal(ids[labels >= 0], labels[labels >= 0])


def test_a_relative_difference_is_of_all_tensors_together():
    ones = [torch.ones(4), torch.ones(12)]
    assert relative(ones, ones) == 0
    assert relative([torch.ones(4) * 2, torch.ones(12)], ones) == pytest.approx(0.5)
