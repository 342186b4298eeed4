"""A task of a SLURM job: which one it is, and asking for the job to be started again after a signal, exactly once.

SLURM starts a job again by itself where it takes the nodes away at once (preemption without grace, a node that fails).
It does not where the job ends before it is made to: after the notice of a time limit, and within a grace time.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from modalign.runs.interrupt import Interrupted, Notice, StopAtOnce

_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Task:
    """Process `rank` of a job's step; `restarts` counts how often the job has been started again before."""

    job: str
    rank: int
    restarts: int

    @classmethod
    def find(cls, environment: Mapping[str, str] = os.environ) -> Task | None:
        """This process, None where srun has not started it."""
        if not {"SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_PROCID"} <= environment.keys():
            return None
        restarts = int(environment.get("SLURM_RESTART_COUNT") or 0)
        return cls(environment["SLURM_JOB_ID"], int(environment["SLURM_PROCID"]), restarts)


@contextmanager
def stoppable(requeue: bool) -> Iterator[None]:
    """Within it a signal ends the command as Interrupted; with `requeue`, a task of SLURM has its job started again.

    The first task asks, and speaks for the job: the others end without an error, since srun would take one for a
    reason to kill the first before it has asked.
    """
    task = Task.find() if requeue else None
    with StopAtOnce() as stop:
        try:
            yield
        except BaseException as error:
            stopped = isinstance(error, (Interrupted, Notice))
            if task is not None and task.rank > 0 and (stopped or stop.raised):
                raise SystemExit(0) from None
            if not stopped:
                raise
            words = str(error) if isinstance(error, Interrupted) else f"{error}; the same command continues"
            raise Interrupted(words if task is None else f"{words}; {start_again(task)}") from None


def start_again(task: Task) -> str:
    """Ask SLURM to put the job back into its queue, unless it does so itself or somebody cancelled it; says which."""
    job = f"SLURM job {task.job}"
    shown, told = _scontrol("show", "job", "--oneliner", task.job)
    if shown is None:
        return f"{job} could not be asked about ({told}): submit it again"
    state = dict(re.findall(r"(\w+)=(\S*)", shown))
    if int(state.get("Restarts") or 0) > task.restarts:
        return f"{job} is started again by SLURM itself"
    if state.get("JobState") != "RUNNING" and state.get("Reason") != "TimeLimit":
        return f"{job} was cancelled and is not started again"
    done, told = _scontrol("requeue", task.job)
    return f"{job} is in the queue again" if done is not None else f"{job} was not requeued ({told}): submit it again"


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
