"""The embedded model at its shipped size on a tiny world: real phases to be measured, and what is foreseen of them."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch

from modalign.config.build import build
from modalign.config.compose import compose_settings
from modalign.config.places import shipped_runs
from modalign.config.planning import PlanningBook
from modalign.config.recipes import RecipeBook
from modalign.config.specs import Planner, RunSpec
from modalign.data.collate import Collator
from modalign.stages.assemble import build_contrastive, build_model, find_text_tokenizer
from modalign.stages.datamodule import CurriculumData
from modalign.stages.forecast.forecast import Forecaster
from modalign.stages.forecast.plan import engine_of
from modalign.stages.phase_parts import parts_that_train
from modalign.stages.sources import SourceBook, template_of


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@dataclass
class Phase:
    """One command's last phase, as the training command would put it together, with fresh weights."""

    overrides: tuple[str, ...]

    @cached_property
    def settings(self):
        return compose_settings(self.overrides)[0]

    @cached_property
    def sources(self) -> SourceBook:
        return SourceBook(self.settings, RecipeBook(self.settings))

    @cached_property
    def spec(self) -> RunSpec:
        return Planner(self.settings, RecipeBook(self.settings)).plan()[-1]

    @property
    def stage(self):
        return self.settings.stages[self.spec.stage]

    def forecast(self, *more: str):
        """What is foreseen, by the same settings and a book that takes missing data."""
        settings = compose_settings([*self.overrides, *more])[0]
        book = PlanningBook(settings)
        spec = Planner(settings, book).plan()[-1]
        nowhere = {}
        ancestor = spec
        while ancestor is not None:
            nowhere[ancestor.identity] = Path("nowhere")
            ancestor = ancestor.parent
        return Forecaster(settings, book, engine_of(settings.trainer), nowhere)(spec)

    @cached_property
    def model(self) -> Any:
        tokenizer = find_text_tokenizer(self.settings, [])
        if self.stage.template == "contrast":
            return build_contrastive(self.settings, self.spec.seen[0], "clip", tokenizer)
        return build_model(self.settings, self.spec.modalities, self.spec.num_experts, tokenizer)

    @cached_property
    def module(self) -> Any:
        plan = parts_that_train(self.model, self.spec, self.settings, self.sources.book)
        plan.apply(self.model)
        return build(
            self.stage.module, "module", model=self.model, plan=plan, optimizer=self.stage.optimizer,
            total_steps=self.spec.steps, scales={}, max_bad_share=1.0,
        )  # fmt: skip

    @cached_property
    def data(self) -> CurriculumData:
        self.sources.ensure(list(self.spec.recipes))
        template = template_of(self.stage)
        sources = {name: self.sources.source(name, "train", template, self.stage) for name in self.spec.recipes}
        words = self.model.text_tokenizer
        collator = Collator(words.encode, words.bos_id, words.eos_id, self.settings.model.max_text_tokens)
        return CurriculumData(
            sources, self.spec.shares, self.stage.slice_size, self.stage.slices_per_step, self.spec.steps, collator,
            self.settings.seed,
        )  # fmt: skip


@pytest.fixture(scope="session")
def world_of_shapes(tmp_path_factory) -> Path:
    """Where the tiny world's recipes lie that tests of this folder have asked for."""
    return tmp_path_factory.mktemp("forecast")


@pytest.fixture
def phase(world_of_shapes):
    """`phase(*overrides)`: the last phase of a command."""
    (tokenizer,) = shipped_runs().glob("pretrain_text-*/tokenizer/tokenizer.json")

    def of(*overrides: str) -> Phase:
        return Phase((
            "debug=tiny", "trainer.accelerator=cpu", "trainer.progress=false", f"model.text_tokenizer={tokenizer}",
            f"paths.data={world_of_shapes}", f"paths.runs={world_of_shapes}/runs", *overrides,
        ))  # fmt: skip

    return of
