"""Which parts of a model train in a phase and how fast, and which rest because the phase's data never reach them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from modalign.config.recipes import RecipeBook
from modalign.config.schema import ModalitySettings, OptimizerSettings, Settings, StageSettings
from modalign.config.specs import NEW, RunSpec
from modalign.curriculum.schedule import SliceSchedule
from modalign.errors import ModalignError
from modalign.models.aligned import Path
from modalign.models.freezing import FreezePlan, plan_freeze
from modalign.models.parts import declared_parts, match, parts
from modalign.models.start_values import FROM_PARENT, Copied

# Parts that begin in a phase. Encoders and language models come from files, or from the runs that pretrained them.
BEGINNING = ("tokenizers", "positions", "projectors", "fusion")


def parts_that_train(model: Any, spec: RunSpec, settings: Settings, book: RecipeBook) -> FreezePlan:
    """The stage's parts, less those of modalities that the mixture never brings; `new`: the new ones' own alone."""
    if spec.train == NEW:
        return plan_freeze(model, [part for modality in spec.new for part in model.own_parts(modality)])
    if not hasattr(model, "paths"):
        return plan_freeze(model, spec.train)
    plan = plan_freeze(model, [selector for selector in spec.train if not _later(selector, model, settings)])
    stage = spec.stage_settings or settings.stages[spec.stage]
    # A phase of very few steps may end before every share of its mixture had a slice.
    schedule = SliceSchedule(spec.shares, settings.seed)
    slices = schedule.counts(spec.steps * stage.slices_per_step)
    present = {m for name, count in slices.items() if count for m in book.media(name)}
    reached = {model.paths[m].tokenizer for m in present}
    idle = {f"tokenizers.{path.tokenizer}" for path in model.paths.values() if path.tokenizer not in reached}
    idle |= {part for m in model.paths if m not in present for part in model.own_parts(m)}
    idle |= _unreached(plan.trains, [model.paths[m] for m in present])
    idle |= _kept_frozen(model, spec, stage, settings)
    trains = tuple(part for part in plan.trains if part not in idle)
    if not trains:
        raise ModalignError(
            f"nothing would train in {spec.name}: all that stages.{spec.stage}.train names is kept frozen by its "
            f"`frozen` and `frozen_after`: take it out there"
        )
    return FreezePlan(trains, (*plan.frozen, *(part for part in plan.trains if part in idle)))


def with_begun(plan: FreezePlan, model: nn.Module, copied: Iterable[Copied]) -> FreezePlan:
    """The plan, with those frozen parts as begun that are not the parent's as they are, and come from nowhere else.

    A tokenizer or projector that begins frozen, at random or by a start value, is in no other run's checkpoint.
    """
    sizes = {part: len(names) for part, names in parts(model).items()}
    whole = {each.target: each.tensors for each in copied if each.rule == FROM_PARENT}
    changed = {each.target for each in copied if each.rule != FROM_PARENT}
    inherited = {part for part, tensors in whole.items() if tensors >= sizes.get(part, 0)} - changed
    own = (part for part in plan.frozen if part.split(".")[0] in BEGINNING and part not in inherited)
    return replace(plan, begun=tuple(own))


def _unreached(parts: Iterable[str], paths: Sequence[Path]) -> set[str]:
    """Parts of projectors and encoders that no path goes through."""
    used: dict[str, set[str | None]] = {
        "projectors": {path.projector for path in paths},
        "encoders": {path.encoder for path in paths},
    }
    named = ((part, part.split(".")) for part in parts)
    return {part for part, (kind, *rest) in named if kind in used and rest and rest[0] not in used[kind]}


def _kept_frozen(model: Any, spec: RunSpec, stage: StageSettings, settings: Settings) -> set[str]:
    """What the stage keeps frozen though `train` names it."""

    def below(selectors: Iterable[str]) -> set[str]:
        known = declared_parts(model)
        return {part for s in selectors if not _later(s, model, settings) for part in match(s, known)}

    before = {part for part in below(stage.frozen_after) if _trained_before(part, spec, settings.modalities)}
    return below(stage.frozen) | before


def _later(selector: str, model: Any, settings: Settings) -> bool:
    """Whether a selector names the tokenizer or positions of modalities that are declared, but not yet in the model."""
    group, _, name = selector.partition(".")
    declared = {"positions": set(settings.modalities)}
    declared["tokenizers"] = {m.tokenizer["part"] for m in settings.modalities.values()}
    return name in declared.get(group, ()) and name not in getattr(model, group)


def rate_scales(
    plan: FreezePlan, spec: RunSpec, optimizer: OptimizerSettings, modalities: Mapping[str, ModalitySettings]
) -> dict[str, float]:
    """What multiplies the learning rate of each part that trains: the stage's scale, the new modality's own on its own
    parts, and `earlier_scale` on what an earlier phase has trained."""
    scales = dict.fromkeys(plan.trains, 1.0)
    for part in plan.trains:
        for selector, scale in optimizer.scale.items():
            if part == selector or part.startswith(selector + "."):
                scales[part] *= scale
        for modality in spec.new:
            own = modalities[modality]
            tokenizer = own.tokenizer["part"]
            shared = any(m != modality and other.tokenizer["part"] == tokenizer for m, other in modalities.items())
            if part == f"tokenizers.{tokenizer}" and not shared:
                scales[part] *= own.learning_rate_scale * own.tokenizer_rate_scale
            elif part.rsplit(".", 1)[-1] == modality and not part.startswith("tokenizers."):
                scales[part] *= own.learning_rate_scale
        if _trained_before(part, spec, modalities):
            scales[part] *= optimizer.earlier_scale
    return scales


def _trained_before(part: str, spec: RunSpec, modalities: Mapping[str, ModalitySettings]) -> bool:
    """Whether a modality of an earlier phase uses it."""
    kind, last = part.split(".")[0], part.rsplit(".", 1)[-1]
    if kind == "tokenizers":
        return any(modalities[m].tokenizer["part"] == last for m in spec.seen)
    if kind == "projectors" and all(modalities[m].projector != part.split(".")[1] for m in spec.seen):
        return False
    return last in spec.seen or (bool(spec.seen) and last not in spec.new)
