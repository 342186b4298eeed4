"""Where the time of some steps goes, operation by operation, by torch's profiler: a table and a trace in the run."""

from __future__ import annotations

import gzip
import json
import logging
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch.profiler import ProfilerActivity, profile

from modalign.callbacks.operations import ON_GPU, ON_HOST, operations, table
from modalign.runs.files import make_folder, write_atomic

FOLDER, TABLE, TRACE = "profile", "operations.txt", "trace.json.gz"
WARM_UP = 5  # optimizer steps before: kernels are chosen and memory is found in the first ones
ROWS = 40

log = logging.getLogger(__name__)


class StepProfile(pl.Callback):
    """Profiles `steps` optimizer steps after the first few of this process, or what there is of them.

    Writes into the run's folder `profile/operations.txt` (operations by the time that they themselves took, with the
    shapes that they were given) and `profile/trace.json.gz` (for chrome://tracing or ui.perfetto.dev). Steps that are
    profiled take longer, and compute what they would have computed.
    """

    def __init__(self, run: Path, steps: int) -> None:
        self.place, self.steps = run / FOLDER, steps
        self._begin: int | None = None
        self._running: profile | None = None
        self._since = 0.0

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: object) -> None:
        """Begins and ends where an optimizer step has ended."""
        if trainer.fit_loop._should_accumulate():
            return
        step = trainer.global_step
        if self._begin is None:
            self._begin = step + WARM_UP - 1
        if self._running is None and step == self._begin:
            activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if pl_module.device.type == "cuda" else [])]
            self._running = profile(activities=activities, record_shapes=True)
            self._since = time.perf_counter()
            self._running.start()
        elif step == self._begin + self.steps:
            self._end(step)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The training ended first."""
        self._end(trainer.global_step)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """What was seen until then may be what is looked for; that it cannot be written hides no error."""
        try:
            self._end(trainer.global_step)
        except OSError as error:
            log.warning("no profile could be written: %s", error)

    def _end(self, step: int) -> None:
        running, self._running = self._running, None
        if running is None or self._begin is None:
            return
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        running.stop()
        seconds, done = time.perf_counter() - self._since, step - self._begin
        make_folder(self.place)
        running.export_chrome_trace(str(self.place / TRACE))
        with gzip.open(self.place / TRACE) as file:
            events = json.load(file)["traceEvents"]
        told = [
            f"optimizer steps {self._begin + 1} to {step}, {1000 * seconds / max(done, 1):,.1f} ms each while "
            f"they were watched; what operations took by themselves, and how much of that within the backward pass"
        ]
        for where, kinds in (("on the host", ON_HOST), ("on the GPU", ON_GPU)):
            for title, shapes in ((f"{where}, by operation", False), (f"{where}, by operation and shapes", True)):
                if found := operations(events, kinds, shapes):
                    told += ["", title, table(found, max(done, 1), 1e6 * seconds, ROWS)]
        write_atomic(self.place / TABLE, ("\n".join(told) + "\n").encode())
        log.info("a profile of %d steps: %s", done, self.place / TABLE)
