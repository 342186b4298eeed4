"""The same training steps in loops of several makes: plain torch, our engine, a stock Lightning module."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from modalign.bench.subject import ALIGN, Subject
from modalign.bench.timing import Clock, synchronise
from modalign.callbacks.metrics import MetricsWriter
from modalign.config.schema import OptimizerSettings, Precision, TrainerSettings
from modalign.models.freezing import plan_freeze
from modalign.models.parts import parts
from modalign.runs.folder import RunFolder
from modalign.runs.interrupt import InterruptFlag
from modalign.runs.metrics import MetricLog
from modalign.stages.align import AlignStage
from modalign.stages.engine import Engine
from modalign.stages.optimizer import make_optimizer, make_schedule
from modalign.types import Batch

# A rate that stays, no decay: every loop's schedule and parameter groups then mean the same.
OPTIMIZER = OptimizerSettings(learning_rate=1e-4, floor=1.0, weight_decay=0.0, clip=1.0)


class Course:
    """A model, the batches that it trains on, and the weights from which every loop begins."""

    def __init__(self, subject: Subject, batches: Sequence[Batch], clock: Clock, folder: Path) -> None:
        self.subject, self.batches, self.clock, self.folder = subject, list(batches), clock, folder
        self.plan = plan_freeze(subject.model, ALIGN)
        self.plan.apply(subject.model)
        self.start = [p.detach().clone() for p in self.trained]

    @property
    def precision(self) -> Precision:
        """What the loops compute in."""
        return "bf16-mixed" if self.subject.half else "32-true"

    @property
    def trained(self) -> list[Tensor]:
        """The parameters that train."""
        return [p for p in self.subject.model.parameters() if p.requires_grad]

    def restart(self) -> None:
        """Back to the weights of the beginning."""
        self.plan.apply(self.subject.model)
        self.subject.model.train()
        for parameter, value in zip(self.trained, self.start, strict=True):
            parameter.data.copy_(value)
            parameter.grad = None

    def optimizer(self) -> tuple[torch.optim.Optimizer, Any]:
        """AdamW and its schedule, as our stages make them."""
        tensors, table = dict(self.subject.model.named_parameters()), parts(self.subject.model)
        groups = {part: [cast(torch.nn.Parameter, tensors[name]) for name in table[part]] for part in self.plan.trains}
        made = make_optimizer(groups, {}, OPTIMIZER)
        return made, make_schedule(made, OPTIMIZER, len(self.batches))

    def mean_loss(self, batch: Batch) -> Tensor:
        """The loss that is minimised."""
        with torch.autocast(self.subject.device.type, dtype=torch.bfloat16, enabled=self.subject.half):
            output = self.subject.model(batch)
        return output.loss_sum / output.weight_sum


class Stamps:
    """When each step ended; the first step, which warms a loop up, does not count."""

    def __init__(self, course: Course) -> None:
        self.course = course
        self.times: list[float] = []

    def note(self) -> None:
        """A step has ended."""
        if len(self.times) in (0, len(self.course.batches) - 1):
            synchronise(self.course.subject.device)
        self.times.append(self.course.clock())

    @property
    def seconds(self) -> float:
        """Of one step, on average."""
        return (self.times[-1] - self.times[0]) / (len(self.times) - 1)


def raw_loop(course: Course) -> float:
    """Plain torch: forward, backward, clip, AdamW, schedule; nothing is logged or checked."""
    optimizer, schedule = course.optimizer()
    stamps, trained = Stamps(course), course.trained
    for batch in course.batches:
        optimizer.zero_grad(set_to_none=True)
        course.mean_loss(batch).backward()
        torch.nn.utils.clip_grad_norm_(trained, cast(float, OPTIMIZER.clip))
        optimizer.step()
        schedule.step()
        stamps.note()
    return stamps.seconds


class _Watch(pl.Callback):
    """Stamps each step's end, after everything else that is called then."""

    def __init__(self, stamps: Stamps) -> None:
        self.stamps = stamps

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """A batch is one optimizer step here."""
        self.stamps.note()


class _Preloaded(pl.LightningDataModule):
    """Batches that are there already."""

    def __init__(self, batches: list[Batch]) -> None:
        super().__init__()
        self.batches = batches

    def train_dataloader(self) -> DataLoader[Batch]:
        """Each of them once, in order."""
        return DataLoader(cast(Any, self.batches), batch_size=None)

    def consumed(self, steps: int) -> dict[str, int]:
        """What the count of bad samples is judged against."""
        return {}


def our_loop(course: Course) -> float:
    """Our engine and our align stage, with what it always does: exact normalisation, proof, meter, metrics."""
    stage = course.subject.settings.stages["align"].model_copy(update={"slices_per_step": 1, "optimizer": OPTIMIZER})
    trainer = TrainerSettings(
        accelerator="gpu" if course.subject.device.type == "cuda" else "cpu",
        threads=torch.get_num_threads(),
        precision=course.precision,
        progress=False,
    )
    settings = course.subject.settings.model_copy(update={"trainer": trainer})
    steps = len(course.batches)
    module = AlignStage(cast(Any, course.subject.model), course.plan, OPTIMIZER, steps)
    log = MetricLog(course.folder / "metrics.csv")
    stamps = Stamps(course)
    engine = Engine(
        cast(Any, SimpleNamespace(settings=settings)), cast(Any, SimpleNamespace(steps=steps, stage_settings=stage)),
        RunFolder(course.folder), InterruptFlag(), {},
    )  # fmt: skip
    callbacks = [MetricsWriter(log, trainer.log_every, {"pictures": "pictures"}), _Watch(stamps)]
    engine.train(module, cast(Any, _Preloaded(course.batches)), callbacks, None)
    log.close()
    return stamps.seconds


class _Plain(pl.LightningModule):
    """What Lightning's own pages show: a loss, logged each step, and an optimizer."""

    def __init__(self, course: Course) -> None:
        super().__init__()
        self.model = course.subject.model
        self.course = course

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The mean loss of a batch."""
        loss = self.course.mean_loss(batch)
        self.log("loss", loss, batch_size=batch.num_samples)
        return loss

    def configure_optimizers(self) -> Any:
        """AdamW with its schedule by step."""
        optimizer, schedule = self.course.optimizer()
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def lightning_loop(course: Course) -> float:
    """A plain module in a Trainer as it comes, but for what writes to the terminal or the disk."""
    stamps = Stamps(course)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = pl.Trainer(
            accelerator="gpu" if course.subject.device.type == "cuda" else "cpu", devices=1, max_epochs=1,
            precision=course.precision,
            gradient_clip_val=OPTIMIZER.clip, callbacks=[_Watch(stamps)], logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, default_root_dir=str(course.folder),
        )  # fmt: skip
        trainer.fit(_Plain(course), _Preloaded(course.batches))
    return stamps.seconds
