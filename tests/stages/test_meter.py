"""Means over supervised units since the last look, by what a source is called."""

import pytest
import torch

from modalign.stages.meter import Meter


def add(meter, source, total, count, samples=4):
    meter.add(source, "next_token", torch.tensor(total), torch.tensor(count), samples)


def test_a_mean_weighs_every_token_alike_and_not_every_slice():
    meter = Meter()
    add(meter, "a", 10.0, 2.0)
    add(meter, "a", 10.0, 8.0)
    add(meter, "b", 30.0, 10.0)
    read = meter.read({"a": "image", "b": "audio"})
    assert read["loss/image"] == pytest.approx(2.0)
    assert read["loss/audio"] == pytest.approx(3.0)
    assert read["loss"] == pytest.approx(2.5)
    assert (read["samples"], read["tokens"]) == (12.0, 20.0)


def test_two_recipes_of_one_modality_are_one_loss():
    meter = Meter()
    add(meter, "a", 1.0, 1.0)
    add(meter, "b", 9.0, 3.0)
    assert meter.read({"a": "image", "b": "image"})["loss/image"] == pytest.approx(2.5)


def test_reading_begins_anew_and_nothing_read_is_nothing():
    meter = Meter()
    add(meter, "a", 1.0, 1.0)
    meter.read({})
    assert meter.read({}) == {"samples": 0.0, "tokens": 0.0}


def test_a_kept_state_goes_on_where_it_was():
    meter, resumed = Meter(), Meter()
    add(meter, "a", 10.0, 4.0)
    resumed.load(meter.state())
    for one in (meter, resumed):
        add(one, "a", 2.0, 2.0)
    assert resumed.read({}) == meter.read({})


def test_a_source_of_which_nothing_was_finite_has_no_loss():
    meter = Meter()
    meter.add("a", "caption", torch.tensor(float("nan")), torch.tensor(3.0), 1)
    meter.add("b", "caption", torch.tensor(6.0), torch.tensor(3.0), 1)
    values = meter.read({"a": "image", "b": "audio"})
    assert "loss/image" not in values
    assert (values["loss/audio"], values["loss"]) == (2.0, 2.0)
