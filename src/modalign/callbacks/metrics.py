"""Writes what was measured: CSV always, W&B where it is on; reads the device only every `every` optimizer steps."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import lightning.pytorch as pl

from modalign.runs.metrics import Metric, MetricLog
from modalign.runs.ranks import ALONE, Ranks


class Dashboard(Protocol):
    """A place beside the CSV that metrics go to."""

    def begin(self, rows: Sequence[Metric]) -> None:
        """Take what was measured up to where training goes on from."""
        ...

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Take values measured at an optimizer step."""
        ...


class MetricsWriter(pl.Callback):
    """Logs losses by modality, learning rates and speed."""

    def __init__(
        self,
        log: MetricLog,
        every: int,
        source_names: dict[str, str],
        dashboard: Dashboard | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.rows = log
        self.every = every
        self.source_names = source_names
        self.dashboard = dashboard
        self.ranks = ranks
        self._last = (0.0, 0)
        self._logged = -1

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Rows beyond the resumed step are cut; speed counts from here."""
        if self.ranks.first:
            self.rows.cut_after(trainer.global_step)
            if self.dashboard is not None:
                self.dashboard.begin(self.rows.read())
        self._last = (time.perf_counter(), trainer.global_step)
        self._logged = trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log at each multiple of `every`, and at the last step."""
        step = trainer.global_step
        if step == self._logged or (step % self.every and step != pl_module.total_steps):
            return
        self._logged = step
        if not self.ranks.alone:
            pl_module.share_measures()
        measured = pl_module.meter.read(self.source_names)
        now = time.perf_counter()
        elapsed = max(now - self._last[0], 1e-9)
        self._last = (now, step)
        values = {f"train/{name}": value for name, value in measured.items() if name.startswith("loss")}
        values["speed/samples_per_s"] = measured["samples"] / elapsed
        values["speed/supervised_tokens_per_s"] = measured["tokens"] / elapsed
        pl_module.skips.settle()
        if pl_module.skips.count:
            values["train/skipped_steps"] = pl_module.skips.count
        values |= {f"lr/{name}": rate for name, rate in pl_module.rates().items()}
        pl_module.latest.update({name.removeprefix("train/"): value for name, value in values.items()})
        pl_module.latest["samples_per_s"] = values["speed/samples_per_s"]
        pl_module.latest["tokens_per_s"] = values["speed/supervised_tokens_per_s"]
        self.write(values, step)

    def write(self, values: dict[str, float], step: int) -> None:
        """Append rows and hand them to the dashboard; the first process does."""
        if not self.ranks.first:
            return
        self.rows.append(step, values)
        if self.dashboard is not None:
            self.dashboard.log(values, step)
