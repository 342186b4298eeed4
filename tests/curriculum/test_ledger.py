"""The forgetting ledger."""

import pytest

from modalign.curriculum.ledger import Ledger, PhaseScores
from modalign.errors import ModalignError


@pytest.fixture
def ledger():
    """Image falls and comes back a little, audio gains, the text loss rises in the last phase."""
    return Ledger(
        (
            PhaseScores("align-image", ("image",), {"image": 0.96, "audio": 0.30, "text": 2.0}),
            PhaseScores("align-audio", ("audio",), {"image": 0.80, "audio": 0.90, "text": 2.0}),
            PhaseScores("align-imu", ("imu",), {"image": 0.91, "audio": 0.93, "imu": 0.85, "text": 2.0}),
            PhaseScores("instruct", (), {"image": 0.90, "audio": 0.92, "text": 2.1}),
        ),
        lower=frozenset({"text"}),
        chance={"image": 0.2, "audio": 0.25, "imu": 0.25},
    )


def test_the_matrix_has_phases_by_columns_in_the_order_taught(ledger):
    assert ledger.phases == ("align-image", "align-audio", "align-imu", "instruct")
    assert ledger.columns == ("image", "audio", "imu", "text")
    assert ledger.matrix()[0] == [0.96, 0.30, None, 2.0]
    assert ledger.matrix()[3] == [0.90, 0.92, None, 2.1]


def test_each_change_is_against_the_column_s_own_phase(ledger):
    assert ledger.change(1, "image") == pytest.approx(-0.16)
    assert ledger.change(2, "audio") == pytest.approx(0.03)
    assert ledger.change(1, "audio") == 0.0
    assert ledger.change(0, "audio") is None
    assert ledger.change(3, "imu") is None
    assert ledger.changes()[0] == [0.0, None, None, 0.0]


def test_a_loss_that_rises_is_a_fall(ledger):
    assert ledger.change(3, "text") == pytest.approx(-0.1)


def test_forgetting_is_what_is_missing_at_the_end_and_the_worst_ever(ledger):
    assert ledger.forgetting() == pytest.approx({"image": 0.06, "audio": 0.0, "text": 0.1})
    assert ledger.worst() == pytest.approx({"image": 0.16, "audio": 0.0, "text": 0.1})


def test_transfer_backward_and_forward(ledger):
    assert ledger.backward_transfer() == pytest.approx((-0.06 + 0.02) / 2)
    assert ledger.forward_transfer() == pytest.approx(0.30 - 0.25)


def test_the_gate_names_the_column_that_fell_most(ledger):
    ledger.check(at_most=0.2)
    with pytest.raises(ModalignError, match=r"after phase instruct: text fell by 0.1 from 2 .*allowed 0.02"):
        ledger.check(at_most=0.02)


def test_one_phase_alone_has_nothing_to_forget():
    ledger = Ledger((PhaseScores("align-image", ("image",), {"image": 0.9}),))
    assert ledger.forgetting() == {}
    assert ledger.backward_transfer() is None
    assert ledger.forward_transfer() is None
    ledger.check(at_most=0.0)


def test_a_column_that_its_own_phase_did_not_measure_has_no_change():
    rows = (PhaseScores("align-image", ("image",), {}), PhaseScores("align-audio", ("audio",), {"image": 0.5}))
    assert Ledger(rows).change(1, "image") is None
