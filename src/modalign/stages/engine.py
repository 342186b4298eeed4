"""The Lightning trainer of one phase: callbacks, checkpoints by part, exact resume."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from modalign.callbacks.checkpoints import StepCheckpoints
from modalign.callbacks.metrics import MetricsWriter
from modalign.callbacks.probes import ModalityProbes
from modalign.callbacks.profile import StepProfile
from modalign.callbacks.progress import StageProgress
from modalign.callbacks.validation import ModalityValidation
from modalign.callbacks.wandb_dashboard import WandbDashboard
from modalign.config.processes import engine_of
from modalign.config.schema import StageSettings
from modalign.config.specs import RunSpec
from modalign.data.collate import Collator
from modalign.evaluation.items import load_samples
from modalign.models.blocks import experts, large_blocks, recompute, repeated_blocks
from modalign.models.compiling import compiled_blocks
from modalign.models.freezing import keep_in_float32
from modalign.models.kernels import kernels, large_maps
from modalign.runs.folder import RunFolder
from modalign.runs.interrupt import InterruptFlag
from modalign.runs.manifest import write_manifest
from modalign.runs.metrics import MetricLog
from modalign.runs.ranks import ALONE, Ranks
from modalign.runs.sealed import newest_valid
from modalign.runs.writer import Writer
from modalign.stages.base import StageModule
from modalign.stages.checkpoint_io import PartCheckpointIO
from modalign.stages.datamodule import CurriculumData
from modalign.stages.parallel.environment import RanksEnvironment
from modalign.stages.parallel.strategies import strategy_of
from modalign.stages.parallel.watchdog import Watchdog
from modalign.stages.probing import Probing, TrainingProbes
from modalign.stages.sources import SourceBook, template_of
from modalign.types import Batch

log = logging.getLogger(__name__)


class Engine:
    """Trains one module on one phase's data, from the newest whole checkpoint of its folder if there is one."""

    def __init__(
        self,
        sources: SourceBook,
        spec: RunSpec,
        folder: RunFolder,
        flag: InterruptFlag,
        plain: dict[str, Any],
        ranks: Ranks = ALONE,
    ) -> None:
        self.sources = sources
        self.settings = sources.settings
        self.spec = spec
        self.folder = folder
        self.flag = flag
        self.plain = plain
        self.ranks = ranks
        self.writer = Writer()
        self.step = 0

    @property
    def stage(self) -> StageSettings:
        """The stage's settings as this phase has them."""
        return self.spec.stage_settings or self.settings.stages[self.spec.stage]

    def fit(
        self,
        module: StageModule,
        data: CurriculumData,
        dashboard: WandbDashboard | None = None,
        also: Sequence[pl.Callback] = (),
    ) -> StepCheckpoints:
        """Train to the last step, or to where a signal asks to stop; tells which in the returned callback."""
        metrics = MetricLog(self.folder.metrics_file)
        if dashboard is not None:
            dashboard.consumed = lambda step: self._consumed(data, step)
        every, kept = self.settings.trainer.checkpoint_every, self.settings.trainer.keep_every
        # Rows first: a checkpoint on disk has all rows before it.
        self.writer = Writer(self.settings.trainer.async_checkpoints, before=metrics.sync)
        checkpoints = StepCheckpoints(self.folder.checkpoints, every, self.flag, self.writer, self.ranks, kept)
        newest = self.ranks.of_first(lambda: newest_valid(self.folder.checkpoints))
        with self.writer:
            self.train(module, data, [*also, *self._callbacks(data, metrics, dashboard, checkpoints)], newest)
        metrics.close()
        if self.step < self.spec.steps and not checkpoints.interrupted:
            raise RuntimeError(f"training ended at step {self.step} of {self.spec.steps}")
        return checkpoints

    def train(
        self, module: StageModule, data: CurriculumData, callbacks: list[pl.Callback], checkpoint: Path | None
    ) -> None:
        """Train from a checkpoint, or from the module as it is, until the last step or until a callback stops it."""
        set_threads(self.settings.trainer.threads, self.settings.data.workers, self.ranks.launch.local_size)
        module.ranks = self.ranks
        spread_randomness(self.ranks.rank)
        keep_in_float32(module.model)
        if self.settings.trainer.activation_checkpointing:
            recompute([*large_blocks(module.model), *(b for e in experts(module.model) for b in repeated_blocks(e))])
        trainer = self._trainer(callbacks)
        compiles = self.settings.trainer.compile == "blocks"
        with warnings.catch_warnings(), compiled_blocks(module.model, compiles):
            warnings.simplefilter("ignore")
            trainer.fit(module, data, ckpt_path=checkpoint and str(checkpoint), weights_only=True)
        self.step = trainer.global_step

    def kernels(self, module: StageModule) -> dict[str, Any]:
        """Which kernels the model's parts take here, for the manifest."""
        device = "cuda" if computes_on_gpu(self.settings.trainer.accelerator) else "cpu"
        half = self.settings.trainer.precision.startswith(("bf16", "16"))
        dtype = torch.bfloat16 if half else torch.float32
        maps = large_maps(module.model, device, dtype)
        attention = kernels(module.model, device, dtype, self.settings.trainer.compile == "blocks")
        return {"attention_kernels": attention, **({} if maps is None else {"linear_maps": maps})}

    def _callbacks(
        self, data: CurriculumData, metrics: MetricLog, dashboard: WandbDashboard | None, checkpoints: StepCheckpoints
    ) -> list[pl.Callback]:
        """What watches the training, in the order in which it is called; every process has those that talk."""
        names = self.source_names()
        writer = MetricsWriter(metrics, self.settings.trainer.log_every, names, dashboard, self.ranks)
        callbacks: list[pl.Callback] = [writer]
        if self.settings.evaluation.validation_every:
            batches = self._validation_batches(data.collator)
            callbacks.append(ModalityValidation(batches, self.settings.evaluation.validation_every, writer.write))
        if self.settings.evaluation.probe_every and self.stage.backbone is None:
            callbacks.append(self._probes(data.collator, writer))
        if self.settings.trainer.progress and self.ranks.first:
            callbacks.append(StageProgress())
        if self.settings.trainer.profile and self.ranks.first:
            callbacks.append(StepProfile(self.folder.path, self.settings.trainer.profile))
        callbacks.append(checkpoints)
        timeout_s = self.settings.trainer.step_timeout_s
        if timeout_s and not self.ranks.alone:
            watchdog = Watchdog(self.ranks, timeout_s, lambda n: names[data.schedule.at(n)[0]], self._give_up)
            callbacks = [watchdog, *callbacks, watchdog.last]
        return callbacks

    def source_names(self) -> dict[str, str]:
        """What the losses of each recipe are logged as: the senses that it carries."""
        return {n: self._label(n) for n in self.spec.recipes}

    def _give_up(self, verdict: str) -> None:
        """Write down why a run that hangs was ended; nothing else of this process moves any more."""
        words = f"{self.folder.name}: {verdict}; the same command continues from the last checkpoint"
        log.error(words)
        manifest = self.folder.manifest()
        if manifest is not None:
            manifest.status, manifest.reason = "failed", words
            write_manifest(self.folder.path, manifest)

    def _trainer(self, callbacks: list[pl.Callback]) -> pl.Trainer:
        trainer = self.settings.trainer
        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
        made = pl.Trainer(
            accelerator=trainer.accelerator,
            devices=self.ranks.launch.local_size,
            num_nodes=self.ranks.launch.num_nodes,
            strategy=strategy_of(engine_of(trainer, self.ranks.launch), self.ranks),
            precision=trainer.precision,
            max_steps=self.spec.steps,
            max_epochs=-1,
            accumulate_grad_batches=self.stage.slices_per_step,
            gradient_clip_val=self.stage.optimizer.clip,
            callbacks=callbacks,
            plugins=[
                PartCheckpointIO(self.spec.steps, trainer.keep_every, self.writer),
                RanksEnvironment(self.ranks),
            ],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=trainer.progress and self.ranks.first,
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
        stage = self.stage
        batches: dict[str, list[Batch]] = {}
        for name in self.spec.recipes:
            if not self.sources.book.num_samples(name, "val"):
                continue
            source = self.sources.source(name, "val", template_of(stage))
            items, holes = self.settings.evaluation.validation_items, self.sources.holes
            samples = load_samples(source, items, "val", holes, collator.checked)
            batches.setdefault(self._label(name), []).extend(
                collator(samples[i : i + stage.slice_size], name) for i in range(0, len(samples), stage.slice_size)
            )
        return batches

    def _probes(self, collator: Collator, writer: MetricsWriter) -> ModalityProbes:
        evaluation, spec = self.settings.evaluation, self.spec
        probing = Probing(self.sources, spec.stage, collator, evaluation.probe_items)
        probe = TrainingProbes(probing, self.folder.path, evaluation.probe_items, self.ranks.first)
        return ModalityProbes(spec.new, spec.seen, evaluation.probe_every, probe, writer.write)

    def _consumed(self, data: CurriculumData, step: int) -> dict[str, int]:
        """Samples of each modality that `step` optimizer steps have read."""
        counts: dict[str, int] = {}
        for name, count in data.consumed(step).items():
            label = self._label(name)
            counts[label] = counts.get(label, 0) + count
        return counts

    def _label(self, recipe: str) -> str:
        """What a recipe's values are logged under: its modalities."""
        return "+".join(self.sources.book.media(recipe)) or "text"


def set_threads(threads: int, workers: int, local_size: int = 1) -> None:
    """Let torch use the physical cores that loader workers and other processes leave; 0 decides, else as told."""
    cores = max(1, (os.cpu_count() or 1) // local_size)
    chosen = threads or max(1, cores - min(workers, max(0, cores - 1)))
    torch.set_num_threads(chosen)
    if local_size > 1:
        os.environ["OMP_NUM_THREADS"] = str(chosen)  # where this is not said, Lightning sets a number of its own


def spread_randomness(rank: int) -> None:
    """Give every process but the first random numbers of its own: all were seeded alike, to build the same model."""
    if rank:
        pl.seed_everything((torch.initial_seed() + 7919 * rank) % 2**32, verbose=False)


def machine_state(accelerator: str, processes: int) -> dict[str, Any]:
    """What of the machine may decide the last bits of a result: processes, threads, the device, the CPU's kernels."""
    gpu = torch.cuda.get_device_name() if computes_on_gpu(accelerator) else None
    kernels = torch.backends.cpu.get_cpu_capability()
    return {"processes": processes, "threads": torch.get_num_threads(), "gpu": gpu, "cpu_kernels": kernels}


def computes_on_gpu(accelerator: str) -> bool:
    """Whether `trainer.accelerator` means a GPU on this machine."""
    return accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
