"""What a phase has of its own: the stage's settings with the changes that its place in the curriculum brings."""

from __future__ import annotations

from typing import Any

from modalign.config.schema import PhaseChanges, Settings, StageSettings
from modalign.curriculum.order import Groups
from modalign.curriculum.phases import Phase
from modalign.errors import ModalignError


def changes_of(settings: Settings, phase: Phase, groups: Groups) -> PhaseChanges:
    """What the curriculum's group of the phase's first new modality changes; nothing where nobody says."""
    name = settings.curriculum.name
    told = settings.stages[phase.stage].phases.get(name)
    if told is None or not phase.new:
        return PhaseChanges()
    if len(told) != len(groups):
        raise ModalignError(
            f"stages.{phase.stage}.phases.{name} tells of {len(told)} phases, but the curriculum has {len(groups)} "
            f"groups: tell of each, or give the curriculum another name (curriculum.name=…)"
        )
    return next(told[number] for number, group in enumerate(groups) if phase.new[0] in group)


def changed(stage: StageSettings, changes: PhaseChanges) -> StageSettings:
    """The stage's settings as one phase has them; its steps are the planner's to work out."""
    given = _given(changes, exclude={"steps", "optimizer"})
    if optimizer := _given(changes.optimizer):
        given["optimizer"] = stage.optimizer.model_copy(update=optimizer)
    return stage.model_copy(update=given) if given else stage


def _given(changes: Any, exclude: set[str] | None = None) -> dict[str, Any]:
    return {name: value for name, value in changes.model_dump(exclude=exclude).items() if value is not None}
