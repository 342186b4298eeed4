"""Settings of libraries that only work before torch is imported, and of Python while little is to be collected."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Rounds that a thread spins for its next piece of work before it sleeps: some tenths of a millisecond.
SPINS = 100_000
_LOOK_S = 0.1
_LOOKS = 5
_BUSY_SHARE = 0.2  # of all cores together


def prepare_environment() -> None:
    """Settle how threads wait; what the environment says already goes before it.

    A thread that sleeps wakes late, on a virtual machine later than a small product takes: a training step then takes
    1.3 to 5 times as long. One that spins takes a core from whatever else computes: two such processes slow each other
    down tenfold. So threads spin a little where nothing else computes when the command begins.
    """
    if "OMP_WAIT_POLICY" not in os.environ and "GOMP_SPINCOUNT" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "passive"
        os.environ["GOMP_SPINCOUNT"] = str(0 if machine_is_busy() else SPINS)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # DDP warns of slices in which every part is used
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # torch's profiler says when it begins and ends


@contextmanager
def nothing_collected() -> Iterator[None]:
    """Within it no garbage is collected: imports, settings and plans make many small objects, hardly any in circles,
    and looking for those takes a tenth to a fifth of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def machine_is_busy(statistics: Path = Path("/proc/stat")) -> bool:
    """Whether other processes compute, and go on for as long as it takes to look a few times; one quiet look is enough.

    Taken for granted where the system does not tell.
    """
    try:
        return all(_computes_now(statistics) for _ in range(_LOOKS))
    except (OSError, ValueError):
        return True


def _computes_now(statistics: Path) -> bool:
    before = _busy_and_all(statistics)
    time.sleep(_LOOK_S)
    after = _busy_and_all(statistics)
    return after[0] - before[0] > _BUSY_SHARE * (after[1] - before[1])


def _busy_and_all(statistics: Path) -> tuple[int, int]:
    """Clock ticks of all cores so far: computing (not those that a virtual machine's host took), and at all."""
    ticks = [int(word) for word in statistics.read_text().split("\n", 1)[0].split()[1:9]]
    idle = ticks[3] + ticks[4] + ticks[7]
    return sum(ticks) - idle, sum(ticks)
