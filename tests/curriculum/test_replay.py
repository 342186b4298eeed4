"""What of the earlier modalities is mixed into a phase."""

import math
from fractions import Fraction

import pytest

from modalign.curriculum.replay import ReplayRule, phase_steps, shares
from modalign.errors import ModalignError

SIZES = {"image": 1_000_000, "video": 250_000, "audio": 40_000, "imu": 900}


def test_balanced_gives_half_to_the_new_and_splits_the_old_half_equally():
    assert shares(["audio"], ["image", "video"], SIZES) == {
        "audio": Fraction(1, 2),
        "image": Fraction(1, 4),
        "video": Fraction(1, 4),
    }


def test_balanced_splits_the_new_half_of_a_joint_phase_equally():
    mixed = shares(["audio", "imu"], ["image"], SIZES, "balanced")
    assert mixed == {"audio": Fraction(1, 4), "imu": Fraction(1, 4), "image": Fraction(1, 2)}


def test_equal_gives_every_modality_one_share():
    assert shares(["imu"], ["image", "video", "audio"], SIZES, "equal") == dict.fromkeys(SIZES, Fraction(1, 4))


@pytest.mark.parametrize("rule", ["ratio:0.3", {"ratio": 0.3}, {"ratio": "0.3"}, ReplayRule("ratio", 0.3)])
def test_ratio_is_the_exact_share_of_the_old(rule):
    mixed = shares(["audio"], ["image", "video"], SIZES, rule)
    assert mixed == {"audio": Fraction(7, 10), "image": Fraction(3, 20), "video": Fraction(3, 20)}


@pytest.mark.parametrize("rule", ["none", "ratio:0"])
def test_without_replay_only_the_new_appear(rule):
    assert shares(["audio"], ["image"], SIZES, rule) == {"audio": 1}


@pytest.mark.parametrize("rule", ["balanced", "equal", "ratio:0.9", "temperature:2", "none"])
def test_the_first_phase_is_all_new_whatever_the_rule(rule):
    assert shares(["image"], [], SIZES, rule) == {"image": 1}


@pytest.mark.parametrize("rule", ["balanced", "equal", "ratio:0.3"])
def test_a_joint_phase_without_new_modalities_is_equal(rule):
    assert shares([], ["image", "audio"], SIZES, rule) == {"image": Fraction(1, 2), "audio": Fraction(1, 2)}


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_temperature_follows_the_dataset_sizes(temperature):
    mixed = shares(["imu"], ["image", "video", "audio"], SIZES, {"temperature": temperature})
    powers = {name: size ** (1 / temperature) for name, size in SIZES.items()}
    for name, power in powers.items():
        assert float(mixed[name]) == pytest.approx(power / sum(powers.values()), abs=0.002)
    assert sum(mixed.values()) == 1


def test_a_high_temperature_is_equal_and_a_low_one_still_drops_nobody():
    assert shares(["imu"], ["image"], SIZES, "temperature:1e9") == {"imu": Fraction(1, 2), "image": Fraction(1, 2)}
    cold = shares(["imu"], ["image"], SIZES, "temperature:0.001")
    assert cold["imu"] == Fraction(1, 1000)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("balancd", "unknown replay rule 'balancd' in stages.align.replay: did you mean 'balanced'"),
        ("ratio", "needs a number, got None"),
        ("ratio:much", "needs a number, got 'much'"),
        ("ratio:1", r"must be in \[0, 1\)"),
        ("ratio:-0.1", r"must be in \[0, 1\)"),
        ({"ratio": True}, "needs a number"),
        ("ratio:nan", "needs a number"),
        ("temperature:0", "must be above 0"),
        ("temperature:-2", "must be above 0"),
        ("equal:3", "takes no value"),
        ({"ratio": 0.2, "temperature": 1}, "write one rule"),
        (7, "write one rule"),
    ],
)
def test_a_wrong_rule_is_told_in_one_line(rule, message):
    with pytest.raises(ModalignError, match=message) as caught:
        ReplayRule.parse(rule)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["balanced", "equal", "none", "ratio:0.3", "temperature:2"])
def test_a_rule_reads_back_what_it_prints(text):
    assert str(ReplayRule.parse(text)) == text
    assert ReplayRule.parse(str(ReplayRule.parse(text))) == ReplayRule.parse(text)


def test_a_phase_with_nothing_to_train_on_is_an_error():
    with pytest.raises(ModalignError, match="no new modality"):
        shares([], ["image"], SIZES, "none")
    with pytest.raises(ModalignError, match="needs the dataset size of smell"):
        shares(["smell"], ["image"], SIZES, "temperature:2")
    with pytest.raises(ModalignError, match="image both new and earlier"):
        shares(["image"], ["image"], SIZES)


@pytest.mark.parametrize("rule", ["balanced", "equal", "ratio:0.3", "temperature:3", "none"])
def test_replay_adds_samples_so_that_the_new_ones_stay_as_many(rule):
    mixed = shares(["audio"], ["image", "video"], SIZES, rule)
    steps = phase_steps(4000, 16, mixed, ["audio"])
    assert math.ceil(4000) <= float(steps * 16 * mixed["audio"]) < 4000 + 16


def test_by_option_replay_takes_the_place_of_new_samples():
    mixed = shares(["audio"], ["image"], SIZES)
    assert phase_steps(4000, 16, mixed, ["audio"], keep="total") == 250
    assert phase_steps(4000, 16, mixed, ["audio"], keep="new") == 500
    assert phase_steps(4001, 16, mixed, [], keep="new") == 251


@pytest.mark.parametrize(
    ("samples", "batch", "keep", "message"),
    [
        (0, 16, "new", "at least 1"),
        (5, 0, "new", "at least 1"),
        (5, 5, "totl", r"stages\.align\.replay_keep: did you mean 'total'"),
    ],
)
def test_steps_of_nothing_are_an_error(samples, batch, keep, message):
    with pytest.raises(ModalignError, match=message):
        phase_steps(samples, batch, {"audio": Fraction(1)}, ["audio"], keep)
