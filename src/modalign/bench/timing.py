"""Times contenders in turn, round by round in one process, so that what slows the machine slows them all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Contender:
    """Something to be timed: `prepare` is not timed; a `run` that returns seconds has timed itself."""

    run: Callable[[], float | None]
    prepare: Callable[[], object] | None = None


Seconds = dict[str, list[float]]
Clock = Callable[[], float]
# `processor` counts what this process computed: for a machine that others use too, and one thread.
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "processor": time.process_time}


def interleave(
    contenders: Mapping[str, Contender], rounds: int, device: torch.device, clock: Clock, warmups: int = 1
) -> Seconds:
    """Seconds of every contender in every round; every other round goes through them backwards."""
    seconds: Seconds = {name: [] for name in contenders}
    order = list(contenders.items())
    for number in range(-warmups, rounds):
        for name, contender in order if number % 2 else reversed(order):
            if contender.prepare is not None:
                contender.prepare()
            taken = timed(contender.run, device, clock)
            if number >= 0:
                seconds[name].append(taken)
    return seconds


def timed(run: Callable[[], float | None], device: torch.device, clock: Clock) -> float:
    """How long it takes, the device's work included."""
    synchronise(device)
    begin = clock()
    own = run()
    synchronise(device)
    return clock() - begin if own is None else own


def synchronise(device: torch.device) -> None:
    """Wait for a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass(frozen=True)
class Ratio:
    """Of paired rounds: the median ratio, the lowest and the highest."""

    value: float
    low: float
    high: float


def paired(over: list[float], under: list[float], factor: float = 1.0) -> Ratio:
    """`over` / `under`, round by round, times `factor`."""
    ratios = [factor * a / b for a, b in zip(over, under, strict=True)]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def spread(first: list[float], second: list[float]) -> float:
    """How far the same thing timed twice in a round is from itself, in the median round."""
    return statistics.median(abs(a / b - 1) for a, b in zip(first, second, strict=True))
