"""The Lightning trainer of one phase: callbacks, checkpoints by part, exact resume."""

from __future__ import annotations

import logging
import os
import warnings
from typing import Any

import lightning.pytorch as pl
import torch

from modalign.callbacks.checkpoints import StepCheckpoints
from modalign.callbacks.metrics import MetricsWriter
from modalign.callbacks.progress import StageProgress
from modalign.callbacks.validation import ModalityValidation
from modalign.callbacks.wandb_dashboard import WandbDashboard
from modalign.config.specs import RunSpec
from modalign.data.collate import Collator
from modalign.runs.folder import RunFolder
from modalign.runs.interrupt import InterruptFlag
from modalign.runs.metrics import MetricLog
from modalign.runs.sealed import newest_valid
from modalign.stages.base import StageModule
from modalign.stages.checkpoint_io import PartCheckpointIO
from modalign.stages.datamodule import CurriculumData
from modalign.stages.sources import SourceBook, template_of
from modalign.types import Batch, Sample

log = logging.getLogger(__name__)


class Engine:
    """Trains one module on one phase's data, from the newest whole checkpoint of its folder if there is one."""

    def __init__(
        self, sources: SourceBook, spec: RunSpec, folder: RunFolder, flag: InterruptFlag, plain: dict[str, Any]
    ) -> None:
        self.sources = sources
        self.settings = sources.settings
        self.spec = spec
        self.folder = folder
        self.flag = flag
        self.plain = plain
        self.step = 0

    def fit(self, module: StageModule, data: CurriculumData) -> StepCheckpoints:
        """Train to the last step, or to where a signal asks to stop; tells which in the returned callback."""
        set_threads(self.settings.trainer.threads, self.settings.data.workers)
        metrics = MetricLog(self.folder.metrics_file)
        stage = self.settings.stages[self.spec.stage]
        names = {n: "+".join(self.sources.book.media(n)) or "text" for n in self.spec.recipes}
        dashboard = self._dashboard()
        writer = MetricsWriter(metrics, self.settings.trainer.log_every, names, dashboard)
        every = self.settings.trainer.checkpoint_every
        checkpoints = StepCheckpoints(self.folder.checkpoints, every, self.flag, metrics)
        callbacks: list[pl.Callback] = [writer]
        if self.settings.evaluation.validation_every:
            batches = self._validation_batches(data.collator)
            callbacks.append(ModalityValidation(batches, self.settings.evaluation.validation_every, writer.write))
        if self.settings.trainer.progress:
            callbacks.append(StageProgress())
        callbacks.append(checkpoints)
        trainer = self._trainer(callbacks, stage.slices_per_step)
        newest = newest_valid(self.folder.checkpoints)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer.fit(module, data, ckpt_path=newest and str(newest), weights_only=True)
        self.step = trainer.global_step
        metrics.close()
        if dashboard is not None:
            dashboard.finish()
        if self.step < self.spec.steps and not checkpoints.interrupted:
            raise RuntimeError(f"training ended at step {self.step} of {self.spec.steps}")
        return checkpoints

    def _trainer(self, callbacks: list[pl.Callback], slices_per_step: int) -> pl.Trainer:
        trainer = self.settings.trainer
        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
        made = pl.Trainer(
            accelerator=trainer.accelerator,
            devices=trainer.devices,
            num_nodes=trainer.num_nodes,
            strategy=trainer.strategy,
            precision=trainer.precision,
            max_steps=self.spec.steps,
            max_epochs=-1,
            accumulate_grad_batches=slices_per_step,
            gradient_clip_val=self.settings.stages[self.spec.stage].optimizer.clip,
            callbacks=callbacks,
            plugins=[PartCheckpointIO(self.spec.steps)],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=trainer.progress,
            enable_model_summary=False,
            use_distributed_sampler=False,
            limit_val_batches=0,
            num_sanity_val_steps=0,
            default_root_dir=str(self.folder.path),
        )
        # Lightning's own handlers act in the midst of a step: they would end the run unsaved, or save half a step.
        made._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
        return made

    def _validation_batches(self, collator: Collator) -> dict[str, list[Batch]]:
        """A few fixed batches of each recipe's val split, without randomness."""
        stage = self.settings.stages[self.spec.stage]
        batches: dict[str, list[Batch]] = {}
        for name in self.spec.recipes:
            if not self.sources.book.num_samples(name, "val"):
                continue
            source = self.sources.source(name, "val", template_of(stage))
            count = min(len(source), self.settings.evaluation.validation_items)
            samples: list[Sample] = [source.at(i) for i in range(count)]
            label = "+".join(self.sources.book.media(name)) or "text"
            batches.setdefault(label, []).extend(
                collator(samples[i : i + stage.slice_size], name) for i in range(0, count, stage.slice_size)
            )
        return batches

    def _dashboard(self) -> WandbDashboard | None:
        if not self.settings.logger.wandb:
            return None
        return WandbDashboard(self.settings.logger, self.folder, self.spec.stage, self.spec.modalities, self.plain)


def set_threads(threads: int, workers: int) -> None:
    """Let torch use the physical cores that loader workers leave; 0 decides, any other number is taken as it is."""
    chosen = threads or max(1, (os.cpu_count() or 1) - min(workers, max(0, (os.cpu_count() or 1) - 1)))
    torch.set_num_threads(chosen)
