"""Small worlds of processes: each test names a task of tasks.py and how many processes do it together."""

from __future__ import annotations

import multiprocessing
import pickle
import runpy
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from modalign.runs.checkpoint import load_checkpoint
from modalign.runs.folder import RunFolder
from modalign.runs.metrics import MetricLog

TASKS = Path(__file__).with_name("tasks.py")


@pytest.fixture
def world(tmp_path) -> Callable[..., list[Any]]:
    """`world(size, task, **arguments)`: what the task returned in each of `size` processes, by rank.

    With `may_die` the exit code of a process that returned nothing, or the traceback of one that raised.
    The processes are forked from one that has imported everything and computed nothing.
    """
    count = iter(range(100))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["modalign.stages.curriculum_run"])

    def run(size: int, task: str, timeout_s: float = 240.0, may_die: bool = False, **arguments: Any) -> list[Any]:
        folder = tmp_path / f"world{next(count)}"
        folder.mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        processes = []
        for rank in range(size):
            call = {
                "rank": rank, "size": size, "port": port, "task": task, "arguments": arguments,
                "result": str(folder / str(rank)),
            }  # fmt: skip
            process = context.Process(target=runpy.run_path, args=(str(TASKS), {"CALL": call}, "world"))
            process.start()
            processes.append(process)
        end = time.monotonic() + timeout_s
        for process in processes:
            process.join(max(0.0, end - time.monotonic()))
        hung = [rank for rank, process in enumerate(processes) if process.is_alive()]
        for process in processes:
            process.kill()
        assert not hung, f"ranks {hung} of {size} still run after {timeout_s:.0f} s"
        outcomes = []
        for rank, process in enumerate(processes):
            if not (folder / str(rank)).exists():
                assert may_die, f"rank {rank} died with code {process.exitcode}"
                outcomes.append(process.exitcode)
                continue
            kind, outcome = pickle.loads((folder / str(rank)).read_bytes())
            assert may_die or kind == "done", outcome
            outcomes.append(outcome)
        return outcomes

    return run


@dataclass(frozen=True)
class Trained:
    """A run that some processes have trained, and the slices that each of them was given."""

    folder: RunFolder
    results: list[Any]

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        manifest = self.folder.manifest()
        return load_checkpoint(self.folder.path / manifest.checkpoint["path"]).flat()

    @property
    def losses(self) -> list[float]:
        return [row.value for row in MetricLog(self.folder.metrics_file).read() if row.name == "train/loss"]

    @property
    def errors(self) -> list[str | None]:
        return [result["error"] for result in self.results]

    @property
    def samples(self) -> list[tuple[int, str, tuple[str, ...]]]:
        """Step, source and keys of each slice, the ranks' shares joined."""
        slices = []
        for shares in zip(*(result["seen"] for result in self.results), strict=True):
            ((step, source),) = {share[:2] for share in shares}
            slices.append((step, source, tuple(key for share in shares for key in share[2])))
        return slices

    def apart_from(self, other: "Trained") -> float:
        """The largest relative distance of two runs' tensors.

        Without the keys' biases, on which no attention depends: their gradient is mere rounding, of which Adam's first
        steps make steps of the size of the learning rate.
        """
        mine, others = self.weights, other.weights
        assert mine.keys() == others.keys()
        for weights in (mine, others):
            for name in (name for name in weights if name.endswith("in_proj_bias")):
                weights[name].chunk(3)[1].zero_()
        return max(float((mine[n] - others[n]).norm() / mine[n].norm().clamp_min(1e-12)) for n in mine)


@pytest.fixture
def train(world, own_shop) -> Callable[..., Trained]:
    """`train(size, *overrides)`: a tiny run on a copy of the parents, or in the `shop` of an earlier one."""

    def run(size: int, *overrides: str, shop: Any = None, **task: Any) -> Trained:
        shop = shop or own_shop()
        results = world(size, "train", runs=shop.runs, data=shop.data, overrides=overrides, **task)
        return Trained(RunFolder(shop.runs / shop.specs(*overrides)[-1].name), results)

    return run
