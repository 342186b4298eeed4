"""A task of a SLURM job: which one it is, and asking for the job to be started again after a signal, exactly once.

SLURM starts a job again by itself where it takes the nodes away at once (preemption without grace, a node that fails).
It does not where the job ends before it is made to: after the notice of a time limit, and within a grace time.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from modalign.runs.interrupt import Interrupted, Notice, StopAtOnce

_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Task:
    """Process `rank` of a job's step; `restarts` counts how often the job has been started again before.

    `job` is as scontrol takes it for this job alone, of an array `123_4`: the last task of an array has the id of the
    array itself, and by that number scontrol shows, and puts back, every one of them.
    """

    job: str
    rank: int
    restarts: int

    @classmethod
    def find(cls, environment: Mapping[str, str] = os.environ) -> Task | None:
        """This process, None where srun has not started it."""
        if not {"SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_PROCID"} <= environment.keys():
            return None
        array, index = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
        job = f"{array}_{index}" if array and index else environment["SLURM_JOB_ID"]
        restarts = int(environment.get("SLURM_RESTART_COUNT") or 0)
        return cls(job, int(environment["SLURM_PROCID"]), restarts)


class Stop(StopAtOnce):
    """Ends a command at the first signal; `requeue` says whether a task of SLURM has its job started again then."""

    requeue = False


@contextmanager
def stoppable(requeue: bool) -> Iterator[Stop]:
    """Within it a signal ends the command as Interrupted, and a job of SLURM is put back where `requeue` says so.

    The first task asks, and speaks for the job: the others end without an error, since srun would take one for a
    reason to kill the first before it has asked.
    """
    with Stop() as stop:
        stop.requeue = requeue
        try:
            yield stop
        except BaseException as error:
            task = Task.find() if stop.requeue else None
            if task is not None and task.rank > 0 and (stop.raised or isinstance(error, Interrupted)):
                raise SystemExit(0) from None
            if not isinstance(error, (Interrupted, Notice)):
                raise
            raise _interrupted(error, task) from None


def _interrupted(error: Interrupted | Notice, task: Task | None) -> Interrupted:
    """What the command ends with, after the job was put back where that is this task's to do."""
    words = str(error) if isinstance(error, Interrupted) else f"{error}; the same command continues"
    if task is None:
        return Interrupted(words, error.by)
    again, said = start_again(task, error.by)
    told = Interrupted(f"{words}; {said}", error.by)
    if again is None:
        told.exit_code = 1
    return told


def start_again(task: Task, by: str) -> tuple[bool | None, str]:
    """Put the job back into its queue after the signal `by`, unless SLURM does so itself or somebody cancelled it.

    Says whether it will start again, None where that is for the job script to decide: srun ends the tasks that are
    left with SIGTERM when one of them has failed, and that is no reason to start again.
    """
    job = f"SLURM job {task.job}"
    shown, told = _scontrol("show", "job", "--oneliner", task.job)
    if shown is None:
        return False, f"{job} could not be asked about ({told}): submit it again"
    state = dict(re.findall(r"(\w+)=(\S*)", shown))
    if int(state.get("Restarts") or 0) > task.restarts:
        return True, f"{job} is started again by SLURM itself"
    running = state.get("JobState") == "RUNNING"
    if running and by == signal.SIGTERM.name and state.get("PreemptTime", "None") == "None":
        return None, f"{job} goes on running, so another of its tasks has ended"
    if not running and state.get("Reason") != "TimeLimit":
        return False, f"{job} was cancelled and is not started again"
    done, told = _scontrol("requeue", task.job)
    if done is None:
        return False, f"{job} was not requeued ({told}): submit it again"
    return True, f"{job} is in the queue again"


def _scontrol(*words: str) -> tuple[str | None, str]:
    """What scontrol said, None where it failed; and why it did."""
    try:
        done = subprocess.run(
            ["scontrol", *words], capture_output=True, text=True, timeout=_PATIENCE_S, check=False,
            start_new_session=True,  # the signals of a job that is being taken down are not for it
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, f"scontrol: {error}"
    failed = " ".join((done.stderr or done.stdout).split())
    return (done.stdout, "") if done.returncode == 0 else (None, failed or f"scontrol ended with {done.returncode}")
