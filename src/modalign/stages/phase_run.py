"""Run one phase from its spec: build, prove the freeze, train, prove again, measure, report."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import torch

from modalign.callbacks.checkpoints import StepCheckpoints
from modalign.callbacks.wandb_dashboard import WandbDashboard, open_dashboard
from modalign.config.build import build
from modalign.config.schema import StageSettings
from modalign.config.specs import RunSpec
from modalign.data.collate import Collator
from modalign.evaluation.scores import Score
from modalign.models.caption_start import Example, MapFromCaptions
from modalign.models.freezing import FreezePlan, frozen_digest
from modalign.models.parts import load_parts
from modalign.models.shards import gathered
from modalign.models.start_values import Copied
from modalign.runs.checkpoint import load_checkpoint
from modalign.runs.checks import finished_run
from modalign.runs.folder import RunFolder
from modalign.runs.interrupt import Interrupted, InterruptFlag
from modalign.runs.lineage import checkpoint_entry, lineage, load_assembled, prove_parent
from modalign.runs.manifest import Manifest, write_manifest
from modalign.runs.randomness import capture_randomness, restore_randomness
from modalign.runs.ranks import ALONE, Ranks
from modalign.runs.sealed import newest_valid, read_seal
from modalign.runs.timing import Sections
from modalign.stages.assemble import build_contrastive, build_model, find_text_tokenizer, start
from modalign.stages.base import StageModule
from modalign.stages.captioned import captioned
from modalign.stages.code import note_code
from modalign.stages.datamodule import CurriculumData
from modalign.stages.engine import Engine, computes_on_gpu, machine_state, set_threads
from modalign.stages.feature_cache import feature_cache, kept_choice
from modalign.stages.first_manifest import first_manifest
from modalign.stages.measure import Measure
from modalign.stages.phase_parts import parts_that_train, rate_scales, with_begun
from modalign.stages.proof import prove
from modalign.stages.sources import SourceBook, template_of
from modalign.stages.speakable import warn_where_unspeakable
from modalign.stages.text_vocabulary import train_vocabulary
from modalign.stages.weights import note_frozen

log = logging.getLogger(__name__)


@dataclass
class PhaseRun:
    """One phase on its way: what it is made of, and the manifest that proves what it did."""

    spec: RunSpec
    folder: RunFolder
    parent: RunFolder | None
    sources: SourceBook
    measure: Measure
    command: Sequence[str]
    plain: dict[str, Any]
    ranks: Ranks = ALONE

    @property
    def stage(self) -> StageSettings:
        """The stage's settings."""
        return self.spec.stage_settings or self.sources.settings.stages[self.spec.stage]

    def __call__(self) -> Manifest:
        """Do whatever of the run is not done yet; the folder is locked meanwhile. The first process writes for all."""
        with self._locked() as stack:
            if (made := self.ranks.of_first(self._made_meanwhile)) is not None:
                return made
            earlier = self.folder.manifest() if self.ranks.first else None
            time = Sections(earlier.seconds if earlier else None)
            with time("preparing"):
                module, data, copied = self.assemble()
                model, plan = module.model, module.plan
                self._take_up(model, plan)
                before = frozen_digest(model, plan.frozen) if self.ranks.first else {}
                manifest = first_manifest(
                    self.spec, self.folder, self.parent, self.sources, self.command, self.plain, model, plan, copied
                )
                note_code(manifest, self.folder, self.parent)
                note_frozen(manifest, before, self.sources.settings, self.folder, self.parent)
                manifest.extra |= kept_choice(earlier)
                self._write(manifest)
                if self.stage.backbone is None and self.ranks.first:
                    manifest.extra |= warn_where_unspeakable(model, self.sources, self.spec.recipes)
            try:
                with self.ranks.telling():
                    dashboard = self._dashboard(manifest, stack)
                    untaught = self.ranks.of_first(lambda: self._before(model, time))
                    self._train(manifest, module, data, time, dashboard)
                    module.skips.end(self.spec.steps)
                    self.ranks.together(lambda: prove(manifest, module, before))
                    manifest.consumed = data.consumed(self.spec.steps)
                    self.ranks.together(lambda: module.holes.check(manifest.consumed, ended=True))
                    model = self._whole(module)
                    self.ranks.of_first(lambda: self._measured(manifest, model, time, untaught))
                manifest.status = "finished"
            except BaseException as error:
                manifest.status = "interrupted" if isinstance(error, (Interrupted, KeyboardInterrupt)) else "failed"
                manifest.reason = str(error) or type(error).__name__
                raise
            finally:
                manifest.seconds = time.seconds
                manifest.holes = module.holes.to_dict() | self.sources.holes.to_dict()
                manifest.extra["skipped_steps"] = {"count": module.skips.count, "first": module.skips.steps}
                self._write(manifest)
            self.ranks.of_first(lambda: self._report(time, manifest))
        return manifest

    def assemble(self) -> tuple[StageModule, CurriculumData, list[Copied]]:
        """What trains, as it is before the first step, its data, and which start values were copied."""
        settings = self.sources.settings
        pl.seed_everything(settings.seed, verbose=False)
        set_threads(settings.trainer.threads, settings.data.workers, self.ranks.launch.local_size)
        model, copied = self.ranks.together(self._model)
        plan = self._plan(model)
        if self.stage.backbone is None:
            plan = with_begun(plan, model, copied)
        plan.apply(model)
        return self._module(model, plan), self._data(model), copied

    def _made_meanwhile(self) -> Manifest | None:
        """The run as another command has finished it while this one was on its way to the lock. One that goes on must
        stand on the parent that it began with."""
        if (done := finished_run(self.folder.path, self.spec.identity)) is not None:
            return done
        earlier = self.folder.manifest()
        if self.parent is not None and earlier is not None and newest_valid(self.folder.checkpoints) is not None:
            prove_parent(earlier, self.parent.path)
        return None

    def _take_up(self, model: Any, plan: FreezePlan) -> None:
        """Parts that began frozen as the run's own checkpoint has them, if there is one: fitted again, they might
        differ in their last bits."""
        newest = self.ranks.of_first(lambda: newest_valid(self.folder.checkpoints)) if plan.begun else None
        if newest is not None:
            held = [part for part in plan.begun if part in read_seal(newest)["parts"]]
            load_parts(model, load_checkpoint(newest, parts=held, with_state=False).tensors)

    @contextmanager
    def _locked(self) -> Iterator[ExitStack]:
        """The folder held by the first process for all of them; what else is to be closed goes onto the stack."""
        with ExitStack() as stack:
            self.ranks.of_first(lambda: stack.enter_context(self.folder.lock()))
            yield stack

    def _dashboard(self, manifest: Manifest, stack: ExitStack) -> WandbDashboard | None:
        """The run in W&B, which the first process writes and ends; None where it is off."""
        opened: list[WandbDashboard] = []
        if self.sources.settings.logger.wandb:
            whole = open_dashboard(self.sources.settings.logger, self.folder, manifest)
            self.ranks.of_first(lambda: opened.append(stack.enter_context(whole)))
        return opened[0] if opened else None

    def _write(self, manifest: Manifest) -> None:
        if self.ranks.first:
            write_manifest(self.folder.path, manifest)

    def _whole(self, module: StageModule) -> Any:
        """The trained model as one process has it: of a sharded one, the first process builds it anew."""
        if module.usage is None or self.stage.backbone is not None:
            return module.model
        state = gathered(module.model.state_dict(), self.ranks.first)
        if not self.ranks.first:
            return module.model
        model, _ = self._model(fitted=False)
        model.load_state_dict(state)
        return model

    def _before(self, model: Any, time: Sections) -> tuple[Score, ...]:
        """What the new modalities score before the first step; leaves no trace in what trains."""
        if self.stage.backbone is not None or not (self.spec.new and self.spec.seen):
            return ()
        state = capture_randomness()
        on_gpu = computes_on_gpu(self.sources.settings.trainer.accelerator)
        with time("measuring before"):
            scores = self.measure.before(self.spec, model.to("cuda") if on_gpu else model)
        model.to("cpu")
        restore_randomness(state)
        return scores

    def _measured(self, manifest: Manifest, model: Any, time: Sections, before: tuple[Score, ...]) -> None:
        checkpoint = newest_valid(self.folder.checkpoints)
        assert checkpoint is not None
        manifest.checkpoint = checkpoint_entry(self.folder.path, checkpoint)
        if self.stage.backbone is None:
            if computes_on_gpu(self.sources.settings.trainer.accelerator):
                model.to("cuda")  # Lightning leaves it on the CPU
            with time("measuring"):
                self.measure(self.spec, model, self.folder, before)
            manifest.extra["measuring"] = self.spec.measuring

    def _model(self, fitted: bool = True) -> tuple[Any, list[Copied]]:
        settings, spec = self.sources.settings, self.spec
        chain = [ancestor.path for ancestor in lineage(self.parent.path)] if self.parent else []
        if self.stage.template == "text" and settings.model.text_tokenizer is None:
            self.ranks.first_then_all(self._vocabulary)
        tokenizer = find_text_tokenizer(settings, [*chain, self.folder.path])
        inherited = load_assembled(self.parent.path) if self.parent else {}
        if self.stage.template == "contrast":
            encoder = str(self.stage.backbone).removeprefix("encoders.")
            return build_contrastive(settings, spec.seen[0], encoder, tokenizer), []
        model = build_model(settings, spec.modalities, spec.num_experts, tokenizer, spec.adapters)
        if not any(name.startswith("projectors.") for name in inherited):
            inherited_llm = {k: v for k, v in inherited.items() if k.startswith("llm.")}
            model.load_state_dict(inherited_llm, strict=False)
            model.match_scale()
        return model, start(model, settings, spec.new, inherited, self._captions if fitted else None)

    def _captions(self, tokenizer: str, modalities: Sequence[str]) -> MapFromCaptions:
        """The start of a tokenizer from the captions of modalities that share it; the first process fits it."""

        def examples() -> list[Example]:
            return [each for m in modalities for each in captioned(self.sources, self.spec.recipes, m)]

        return MapFromCaptions(tokenizer, examples, self.sources.settings.seed, self.ranks.of_first)

    def _vocabulary(self) -> None:
        folder = self.folder.path / "tokenizer"
        if (folder / "tokenizer.json").is_file():
            return
        sources = [self.sources.source(name, "train", template_of(self.stage)) for name in self.spec.recipes]
        texts = (s.record(s.reader.read(i)).get("text", "") for s in sources for i in range(len(s)))
        train_vocabulary(texts, self.sources.settings.model.language_model["source"]["vocab_size"], folder)

    def _plan(self, model: Any) -> FreezePlan:
        return parts_that_train(model, self.spec, self.sources.settings, self.sources.book)

    def _module(self, model: Any, plan: FreezePlan) -> StageModule:
        return build(
            self.stage.module,
            f"stages.{self.spec.stage}.module",
            model=model,
            plan=plan,
            optimizer=self.stage.optimizer,
            total_steps=self.spec.steps,
            scales=rate_scales(plan, self.spec, self.stage.optimizer, self.sources.settings.modalities),
            max_bad_share=self.sources.settings.data.max_bad_share,
        )

    def _data(self, model: Any) -> CurriculumData:
        settings, stage = self.sources.settings, self.stage
        template = template_of(stage)
        drawn = self.spec.drawn
        sources = {name: self.sources.source(name, "train", template, stage, drawn) for name in self.spec.recipes}
        tokenizer = model.text_tokenizer
        longest = stage.max_text_tokens or settings.model.max_text_tokens
        collator = Collator(tokenizer.encode, tokenizer.bos_id, tokenizer.eos_id, longest)
        return CurriculumData(
            sources,
            self.spec.shares,
            stage.slice_size,
            stage.slices_per_step,
            self.spec.steps,
            collator,
            settings.seed,
            settings.data.workers,
            settings.data.ahead,
        )

    def _train(
        self, manifest: Manifest, module: StageModule, data: CurriculumData, time: Sections,
        dashboard: WandbDashboard | None,
    ) -> None:  # fmt: skip
        with InterruptFlag() as flag:
            engine = Engine(self.sources, self.spec, self.folder, flag, self.plain, self.ranks)
            with time("training"):
                cache = feature_cache(engine.settings, self.stage, data, manifest, self._write, self.ranks)
                stopped: StepCheckpoints = engine.fit(module, data, dashboard, cache)
            manifest.extra["machine"] = machine_state(engine.settings.trainer.accelerator, self.ranks.world_size)
            manifest.extra.update(engine.kernels(module))
            if stopped.interrupted:
                raise Interrupted(
                    f"{self.folder.name}: stopped by {stopped.interrupted} at step {engine.step} of "
                    f"{self.spec.steps}, saved; the same command continues it",
                    stopped.interrupted,
                )

    def _report(self, time: Sections, manifest: Manifest) -> None:
        from modalign.evaluation.report.run_report import write_run_report

        with time("report"):
            write_run_report(self.folder.path)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
