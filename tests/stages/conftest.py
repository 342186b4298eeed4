"""Tiny real runs: one world and one pair of backbones for this folder's tests, and the command that adds to them."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from modalign.callbacks.checkpoints import StepCheckpoints
from modalign.config.compose import compose_settings
from modalign.config.recipes import RecipeBook
from modalign.config.specs import Planner, RunSpec
from modalign.data.slices import SliceDataset
from modalign.models.freezing import FreezePlan
from modalign.models.start_values import Copied
from modalign.runs.folder import RunFolder
from modalign.stages import checkpoint_io
from modalign.stages.base import StageModule
from modalign.stages.datamodule import CurriculumData
from modalign.stages.measure import Measure
from modalign.stages.phase_parts import with_begun
from modalign.stages.phase_run import PhaseRun
from modalign.stages.sources import SourceBook
from modalign.types import Batch

ROOT = Path(__file__).resolve().parents[2]
TINY = (
    "debug=tiny", "trainer.progress=false", "trainer.threads=1", "trainer.accelerator=cpu", "evaluation.num_items=3",
    "evaluation.splits=[test]", "evaluation.max_new_tokens=2", "evaluation.num_shown=0", "data.pairs=[]",
    "curriculum.groups=[[image],[audio],[fmri]]", "model.language_model.source.num_hidden_layers=1",
    "model.encoders.clip.architecture.vision_cfg.layers=1", "model.encoders.clip.architecture.text_cfg.layers=1",
    "model.projectors.upm.expert_layers=1",
    # What tests count with, whatever is tuned in the shipped files.
    "stages.align.optimizer.learning_rate=1e-3", "stages.align.optimizer.floor=0.05", "stages.align.replay=balanced",
    "modalities.audio.learning_rate_scale=3", "curriculum.first_phase_experts=1", "curriculum.expert_noise=0.02",
)  # fmt: skip


composed = cache(compose_settings)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@dataclass(frozen=True)
class Shop:
    """A folder of runs and of data, and the training command on them, in this process."""

    runs: Path
    data: Path

    def elsewhere(self, folder: Path, *runs: Path) -> Shop:
        """The same data with copies of these runs in another folder."""
        for run in runs:
            shutil.copytree(run, folder / run.name)
        return Shop(folder, self.data)

    def overrides(self, *more: str) -> tuple[str, ...]:
        return (*TINY, "modalities.audio.start.from=image", f"paths.runs={self.runs}", f"paths.data={self.data}", *more)

    def specs(self, *more: str) -> list[RunSpec]:
        settings, _ = composed(self.overrides(*more))
        return Planner(settings, RecipeBook(settings)).plan()

    def train(self, *more: str) -> RunFolder:
        """Run the command as a person would; the last of its runs."""
        assert entry().main(self.overrides(*more)) == 0
        return RunFolder(self.specs(*more)[-1].folder(self.runs))

    def sources(self, *more: str) -> SourceBook:
        settings, _ = composed(self.overrides(*more))
        return SourceBook(settings, RecipeBook(settings))

    def phase(self, *more: str, parent: RunFolder | None = None) -> Assembled:
        """The last phase of a command, put together on its finished parent as a run would, but not run.

        `parent` stands in where `more` changes what the parent would be.
        """
        settings, plain = composed(self.overrides(*more))
        book = RecipeBook(settings)
        sources = SourceBook(settings, book)
        spec = Planner(settings, book).plan()[-1]
        sources.ensure(list(spec.recipes))
        parent = parent or (RunFolder(spec.parent.folder(self.runs)) if spec.parent else None)
        run = PhaseRun(spec, RunFolder(spec.folder(self.runs)), parent, sources, Measure(sources), [], plain)
        pl.seed_everything(settings.seed, verbose=False)
        model, copied = run._model()
        plan = with_begun(run._plan(model), model, copied)
        plan.apply(model)
        return Assembled(spec, model, plan, run._module(model, plan), run._data(model), copied)


@dataclass(frozen=True)
class Assembled:
    """What a phase is made of before its first step."""

    spec: RunSpec
    model: Any
    plan: FreezePlan
    module: StageModule
    data: CurriculumData
    copied: list[Copied]

    def fit(self, *callbacks: pl.Callback, steps: int | None = None, clip: float | None = None) -> pl.Trainer:
        """Train on the phase's data without a run folder; gradients are as they come unless `clip` is given."""
        trainer = pl.Trainer(
            accelerator="cpu", devices=1, max_steps=steps or self.spec.steps, max_epochs=-1, callbacks=[*callbacks],
            accumulate_grad_batches=self.data.slices_per_step, gradient_clip_val=clip, logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0,
        )  # fmt: skip
        trainer.fit(self.module, self.data)
        return trainer

    def slices(self, count: int) -> list[Batch]:
        """The phase's first batches."""
        data = self.data
        dataset = SliceDataset(data.sources, data.schedule, data.slice_size, 0, 1, data.collator)
        return [dataset[n] for n in range(count)]


def entry():
    """The module train.py."""
    spec = importlib.util.spec_from_file_location("train", ROOT / "train.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def backbones(tmp_path_factory) -> Shop:
    """A language model and an encoder of a few steps, and nothing aligned yet."""
    folder = tmp_path_factory.mktemp("stages")
    shop = Shop(folder / "runs", folder / "data")
    shop.train("stage=pretrain_contrast")
    return shop


@pytest.fixture(scope="session")
def image(backbones) -> RunFolder:
    """Image aligned, with one expert."""
    return backbones.train("stage=align", "modality=image")


@pytest.fixture(scope="session")
def audio(backbones, image) -> RunFolder:
    """Audio aligned after image, with three experts and replay."""
    return backbones.train("stage=align", "modality=audio")


@pytest.fixture(scope="session")
def instructed(backbones, audio) -> RunFolder:
    """The language model tuned on image and audio."""
    return backbones.train("stage=instruct", "modality=[image,audio]")


@pytest.fixture
def own_shop(backbones, image, tmp_path) -> Callable[[], Shop]:
    """A copy of the runs up to image, for a test that makes or breaks runs of the same identity."""
    count = iter(range(100))

    def copy() -> Shop:
        runs = (*backbones.runs.glob("pretrain_*"), image.path)
        return backbones.elsewhere(tmp_path / f"runs{next(count)}", *runs)

    return copy


def write_late(put: Callable[..., None], noted: list[tuple[int, bool]]) -> None:
    """Each checkpoint but the last is written only when its process has done another optimizer step.

    `put` is setattr, or what undoes it after a test; `noted` gets the step of each and whether the training went on.
    """
    done = [0]
    end, save = StepCheckpoints.on_train_batch_end, checkpoint_io.save_checkpoint

    def ended(self: StepCheckpoints, trainer: pl.Trainer, *arguments: Any) -> None:
        done[0] = trainer.global_step
        end(self, trainer, *arguments)

    def save_late(folder: Path, step: int, *arguments: Any, final: bool, **options: Any) -> Path:
        until = time.monotonic() + 60
        while not final and done[0] <= step and time.monotonic() < until:
            time.sleep(0.005)
        noted.append((step, done[0] > step))
        return save(folder, step, *arguments, final=final, **options)

    put(StepCheckpoints, "on_train_batch_end", ended)
    put(checkpoint_io, "save_checkpoint", save_late)


@pytest.fixture
def written_late(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[tuple[int, bool]]]:
    """`written_late()`: from then on checkpoints are; returns what will be noted of them."""

    def begin() -> list[tuple[int, bool]]:
        noted: list[tuple[int, bool]] = []
        write_late(monkeypatch.setattr, noted)
        return noted

    return begin


@pytest.fixture
def told_to_stop(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], AbstractContextManager[None]]:
    """Within `told_to_stop(step)`, SIGTERM arrives while that step is under way, once."""

    @contextmanager
    def within(step: int) -> Iterator[None]:
        told: list[int] = []
        original = StepCheckpoints.on_train_batch_end

        def stop(self: StepCheckpoints, trainer: pl.Trainer, *arguments: Any) -> None:
            if trainer.global_step == step and not told:
                told.append(step)
                signal.raise_signal(signal.SIGTERM)
            original(self, trainer, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(StepCheckpoints, "on_train_batch_end", stop)
            yield

    return within
