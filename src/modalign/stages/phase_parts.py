"""Which parts of a model train in a phase, and which rest because the phase's data never reach them."""

from __future__ import annotations

from typing import Any

from modalign.config.recipes import RecipeBook
from modalign.config.schema import Settings
from modalign.config.specs import NEW, RunSpec
from modalign.curriculum.schedule import SliceSchedule
from modalign.models.freezing import FreezePlan, plan_freeze


def parts_that_train(model: Any, spec: RunSpec, settings: Settings, book: RecipeBook) -> FreezePlan:
    """The stage's parts, less those of modalities that the mixture never brings; `new`: the new ones' own alone."""
    if spec.train == NEW:
        return plan_freeze(model, [part for modality in spec.new for part in model.own_parts(modality)])
    if not hasattr(model, "paths"):
        return plan_freeze(model, spec.train)
    plan = plan_freeze(model, [selector for selector in spec.train if not _later(selector, model, settings)])
    # A phase of very few steps may end before every share of its mixture had a slice.
    schedule = SliceSchedule(spec.shares, settings.seed)
    stage = spec.stage_settings or settings.stages[spec.stage]
    slices = schedule.counts(spec.steps * stage.slices_per_step)
    present = {m for name, count in slices.items() if count for m in book.media(name)}
    reached = {model.paths[m].tokenizer for m in present}
    idle = {f"tokenizers.{path.tokenizer}" for path in model.paths.values() if path.tokenizer not in reached}
    idle |= {part for m in model.paths if m not in present for part in model.own_parts(m)}
    trains = tuple(part for part in plan.trains if part not in idle)
    return FreezePlan(trains, (*plan.frozen, *(part for part in plan.trains if part in idle)))


def _later(selector: str, model: Any, settings: Settings) -> bool:
    """Whether a selector names the tokenizer or positions of modalities that are declared, but not yet in the model."""
    group, _, name = selector.partition(".")
    declared = {"positions": set(settings.modalities)}
    declared["tokenizers"] = {m.tokenizer["part"] for m in settings.modalities.values()}
    return name in declared.get(group, ()) and name not in getattr(model, group)
