"""How a command ends: one line, its exit code, and time for the process that tells it."""

import pytest

from modalign.cli import terminal
from modalign.errors import ModalignError, ToldElsewhere
from modalign.runs.interrupt import Interrupted


@pytest.fixture
def end(monkeypatch, capsys):
    """Ends a command of a given place with an error: what it says, how long it waits, its exit code."""
    for name in ("LOCAL_RANK", "SLURM_LOCALID", "SLURM_PROCID", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)

    def ends(error, **environment):
        waits = []
        monkeypatch.setattr(terminal.time, "sleep", waits.append)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as stop:
            terminal.exit_with(error)
        return capsys.readouterr().err, waits, stop.value.code

    return ends


TORCHRUN = {"TORCHELASTIC_RUN_ID": "none"}


def test_one_process_tells_its_error_and_waits_for_nobody(end):
    assert end(ModalignError("no such stage")) == ("error: no such stage\n", [], 2)


def test_the_first_process_of_a_node_tells_and_the_others_leave_it_the_time(end):
    error = ModalignError("slice_size=8 does not divide among 3 processes")
    assert end(error, LOCAL_RANK="0", **TORCHRUN) == (f"error: {error}\n", [], 2)
    assert end(error, LOCAL_RANK="2", **TORCHRUN) == ("", [terminal.GRACE_S], 2)


def test_a_process_of_slurm_leaves_the_time_too(end):
    assert end(ToldElsewhere("locked", 1), SLURM_LOCALID="0", SLURM_PROCID="4") == ("", [terminal.GRACE_S], 1)


def test_what_one_process_alone_has_met_it_tells_at_once(end):
    error = ModalignError("rank 2 has no disk")
    error.only_here = True
    assert end(error, LOCAL_RANK="2", **TORCHRUN) == ("error: rank 2 has no disk\n", [], 2)


def test_nobody_waits_after_a_signal(end):
    assert end(Interrupted("stopped by SIGTERM"), LOCAL_RANK="1", **TORCHRUN) == ("", [], 75)


def test_nobody_waits_where_the_first_process_has_started_the_others(end):
    assert end(ModalignError("locked"), LOCAL_RANK="1") == ("", [], 2)
