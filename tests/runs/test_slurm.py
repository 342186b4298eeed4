"""Asking SLURM to start a job again: once, by the first task, and only where SLURM does not do so itself."""

import os
import signal

import pytest

from modalign.errors import ModalignError
from modalign.runs.interrupt import Interrupted, InterruptFlag, StopAtOnce
from modalign.runs.slurm import Task, start_again, stoppable

RUNNING = "JobState=RUNNING Reason=None Restarts=2"


@pytest.fixture
def scontrol(tmp_path, monkeypatch):
    """A stand-in for scontrol that shows a job as it is told, and writes down what it was asked for."""

    def make(shown: str, requeue_code: int = 0):
        program = tmp_path / "scontrol"
        program.write_text(
            f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n'
            f'if [ "$1" = show ]; then echo "JobId=7 JobName=a {shown}"; exit 0; fi\n'
            f"[ {requeue_code} = 0 ] || echo 'Requested operation is presently disabled for job 7' >&2\n"
            f"exit {requeue_code}\n"
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        return tmp_path / "asked"

    return make


@pytest.fixture
def as_task(monkeypatch):
    def become(rank=0, restarts=None):
        monkeypatch.setenv("SLURM_JOB_ID", "7")
        monkeypatch.setenv("SLURM_STEP_ID", "0")
        monkeypatch.setenv("SLURM_PROCID", str(rank))
        monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
        if restarts is not None:
            monkeypatch.setenv("SLURM_RESTART_COUNT", str(restarts))

    return become


def tell(number):
    os.kill(os.getpid(), number)


def told_then_raises(number, error):
    tell(number)
    raise error


def told_in_the_last_step(reached):
    with InterruptFlag():
        tell(signal.SIGTERM)
        reached.append("the last step")
    reached.append("measuring")


@pytest.mark.parametrize(
    ("shown", "by", "again", "said", "asks"),
    [
        (f"{RUNNING} PreemptTime=None", "SIGUSR1", True, "is in the queue again", True),  # the notice of a time limit
        (RUNNING, "SIGUSR2", True, "is in the queue again", True),  # submitit's
        (f"{RUNNING} PreemptTime=2026-01-01", "SIGTERM", True, "is in the queue again", True),  # a grace time
        (f"{RUNNING} PreemptTime=None", "SIGTERM", None, "another of its tasks has ended", False),
        (RUNNING, "SIGTERM", None, "another of its tasks has ended", False),
        ("JobState=COMPLETING Reason=TimeLimit Restarts=2", "SIGTERM", True, "is in the queue again", True),
        ("JobState=COMPLETING Reason=None Restarts=3", "SIGTERM", True, "is started again by SLURM itself", False),
        ("JobState=COMPLETING Reason=None Restarts=2", "SIGTERM", False, "was cancelled", False),
    ],
)
def test_the_job_is_put_back_only_where_slurm_does_not_do_it_itself(scontrol, shown, by, again, said, asks):
    asked = scontrol(shown)
    decided, words = start_again(Task("7", 0, 2), by)
    assert decided is again
    assert said in words
    assert ("requeue 7" in asked.read_text().splitlines()) is asks


def test_a_job_that_may_not_be_requeued_says_why(scontrol):
    scontrol(RUNNING, requeue_code=1)
    assert start_again(Task("7", 0, 2), "SIGUSR1") == (
        False,
        "SLURM job 7 was not requeued (Requested operation is presently disabled for job 7): submit it again",
    )


def test_where_there_is_no_scontrol_the_job_is_to_be_submitted_again(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "submit it again" in start_again(Task("7", 0, 0), "SIGUSR1")[1]


def test_a_task_knows_its_place_from_what_srun_sets():
    step = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_PROCID": "3", "SLURM_RESTART_COUNT": "2"}
    assert Task.find(step) == Task("7", 3, 2)
    assert Task.find({"SLURM_JOB_ID": "7", "SLURM_PROCID": "0"}) is None  # the job script itself
    assert Task.find({}) is None


def test_a_task_of_an_array_is_asked_for_by_its_own_name_for_the_last_one_has_the_id_of_the_array():
    step = {"SLURM_JOB_ID": "6", "SLURM_STEP_ID": "0", "SLURM_PROCID": "0"}
    array = {"SLURM_ARRAY_JOB_ID": "6", "SLURM_ARRAY_TASK_ID": "1"}
    assert Task.find(step | array) == Task("6_1", 0, 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT])
def test_a_signal_outside_training_ends_the_command_at_once(number):
    words = rf"stopped by {number.name}; the same command continues$"
    with pytest.raises(Interrupted, match=words), stoppable(True):
        tell(number)


def test_the_first_task_asks_before_it_ends_and_later_signals_do_not_disturb_it(scontrol, as_task):
    asked = scontrol("JobState=RUNNING Reason=None Restarts=0")
    as_task(rank=0)

    def told_twice():
        try:
            tell(signal.SIGUSR1)
        finally:
            tell(signal.SIGTERM)

    with pytest.raises(Interrupted, match="SLURM job 7 is in the queue again"), stoppable(True):
        told_twice()
    assert asked.read_text().splitlines() == ["show job --oneliner 7", "requeue 7"]


def test_a_task_that_ends_because_another_has_failed_leaves_it_to_the_job_script(scontrol, as_task):
    asked = scontrol("JobState=RUNNING Reason=None Restarts=0 PreemptTime=None")
    as_task(rank=0)
    with pytest.raises(Interrupted) as ended, stoppable(True):
        tell(signal.SIGTERM)
    assert ended.value.exit_code == 1
    assert asked.read_text().splitlines() == ["show job --oneliner 7"]


def test_the_other_tasks_end_without_an_error_and_ask_nothing(scontrol, as_task):
    asked = scontrol("JobState=RUNNING Reason=None Restarts=0")
    as_task(rank=1)
    with pytest.raises(SystemExit) as ended, stoppable(True):
        raise Interrupted("stopped by SIGUSR1 at step 5")
    assert ended.value.code == 0
    with pytest.raises(SystemExit) as ended, stoppable(True), InterruptFlag():
        told_then_raises(signal.SIGUSR1, RuntimeError("Connection closed by peer"))  # the first task was quicker
    assert ended.value.code == 0
    assert not asked.exists()


def test_nothing_is_asked_where_the_settings_do_not_want_it_or_another_error_ended_it(scontrol, as_task):
    asked = scontrol("JobState=RUNNING Reason=None Restarts=0")
    as_task(rank=0)
    with pytest.raises(Interrupted, match=r"^stopped$"), stoppable(False):
        raise Interrupted("stopped")
    with pytest.raises(ModalignError, match=r"^a mistake$"), stoppable(True):
        raise ModalignError("a mistake")
    assert not asked.exists()


def test_training_takes_the_signals_over_and_hands_on_what_it_has_not_obeyed():
    with StopAtOnce() as stop:
        with InterruptFlag() as flag:
            tell(signal.SIGUSR1)
            assert flag.raised == "SIGUSR1"
            assert stop.raised is None
            flag.raised = None
        assert stop.raised is None
        with pytest.raises(KeyboardInterrupt, match="stopped by SIGTERM"):
            told_in_the_last_step(reached := [])
        assert reached == ["the last step"]


def test_a_signal_that_training_has_obeyed_ends_nothing_twice():
    with StopAtOnce():
        with pytest.raises(Interrupted), InterruptFlag():
            told_then_raises(signal.SIGTERM, Interrupted("stopped by SIGTERM"))
        tell(signal.SIGTERM)  # the second of the two that SLURM sends
