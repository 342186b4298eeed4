"""The phases of a curriculum: a stage applied to new modalities with a parent, and which of them a command asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from modalign.curriculum.order import Groups
from modalign.errors import ModalignError, unknown_name


@dataclass(frozen=True, slots=True)
class Phase:
    """A stage applied to `new` modalities after the `seen` ones; `parent` is an index into the phases it came with.

    A phase without new modalities is joint: it trains on everything that its parent has aligned.
    """

    name: str
    stage: str
    new: tuple[str, ...]
    seen: tuple[str, ...]
    parent: int | None

    @property
    def modalities(self) -> tuple[str, ...]:
        """All modalities of the phase: the earlier ones in the order they were taught, then the new."""
        return self.seen + self.new

    @property
    def subject(self) -> tuple[str, ...]:
        """The modalities that name the phase and its run: the new ones, or all of a joint phase."""
        return self.new or self.seen


@dataclass(frozen=True, slots=True)
class Selection:
    """Phases in order of execution, parents before children; the first `num_ancestors` only have to exist."""

    phases: tuple[Phase, ...]
    num_ancestors: int = 0

    @property
    def ancestors(self) -> tuple[Phase, ...]:
        """Phases that must exist before the wanted ones and are made where they do not."""
        return self.phases[: self.num_ancestors]

    @property
    def wanted(self) -> tuple[Phase, ...]:
        """Phases that the command asked for."""
        return self.phases[self.num_ancestors :]


def plan_phases(groups: Groups, stages: Sequence[str] = ("align", "instruct")) -> tuple[Phase, ...]:
    """The whole curriculum: the first stage once a group, then each further stage once, on all that is aligned."""
    if not groups or not stages:
        raise ModalignError(f"a curriculum needs groups and stages: got {len(groups)} groups and {len(stages)} stages")
    phases: list[Phase] = []
    for group in groups:
        seen = phases[-1].modalities if phases else ()
        phases.append(_phase(stages[0], group, seen, len(phases) - 1 if phases else None))
    for stage in stages[1:]:
        phases.append(_phase(stage, (), phases[-1].modalities, len(phases) - 1))
    return tuple(phases)


def select(phases: Sequence[Phase], stage: str | None = None, modality: str | Sequence[str] | None = None) -> Selection:
    """What `stage=… modality=…` asks for, with the phases that must exist before it.

    A stage that teaches new modalities, with `modality`: one phase with just those (a list jointly), whose parent is
    the curriculum before the earliest phase that holds any of them. A joint stage, with `modality`: narrowed to those,
    after the phase that holds the latest of them. Without `modality`: the stage's phases as planned. Neither: all.
    """
    if stage is None:
        if modality is not None:
            raise ModalignError(
                f"modality={_asked(modality)} without a stage: say what to do with it, as in "
                f"`stage={phases[0].stage} modality={_asked(modality)}`"
            )
        return Selection(tuple(phases))
    stages = list(dict.fromkeys(phase.stage for phase in phases))
    if stage not in stages:
        raise unknown_name("stage", stage, stages, where="the curriculum")
    incremental = [phase for phase in phases if phase.new]
    chosen = None if modality is None else _in_order(modality, incremental)
    if any(phase.stage == stage for phase in incremental):
        return Selection(tuple(incremental)) if chosen is None else _only_new(incremental, stage, chosen)
    return _joint(phases, incremental, stage, chosen)


def _phase(stage: str, new: tuple[str, ...], seen: tuple[str, ...], parent: int | None) -> Phase:
    return Phase(f"{stage}-{'+'.join(new or seen)}", stage, new, seen, parent)


def _asked(modality: str | Sequence[str]) -> str:
    return modality if isinstance(modality, str) else f"[{','.join(modality)}]"


def _in_order(modality: str | Sequence[str], incremental: Sequence[Phase]) -> tuple[str, ...]:
    """The asked names in curriculum order, so that the order on the command line makes no other run."""
    asked = (modality,) if isinstance(modality, str) else tuple(modality)
    known = [name for phase in incremental for name in phase.new]
    if not asked:
        raise ModalignError(f"modality=[] names nothing: name at least one of {', '.join(sorted(known))}")
    for name in asked:
        if name not in known:
            error = unknown_name("modality", str(name), known, where="the curriculum")
            raise ModalignError(f"{error}; one that is declared joins it by curriculum.groups")
    return tuple(name for name in known if name in asked)


def _only_new(incremental: Sequence[Phase], stage: str, chosen: tuple[str, ...]) -> Selection:
    earliest = min(i for i, phase in enumerate(incremental) if set(phase.new) & set(chosen))
    wanted = _phase(stage, chosen, incremental[earliest].seen, incremental[earliest].parent)
    return Selection((*incremental[:earliest], wanted), earliest)


def _joint(
    phases: Sequence[Phase], incremental: Sequence[Phase], stage: str, chosen: tuple[str, ...] | None
) -> Selection:
    joint = [phase for phase in phases if not phase.new]
    joint = joint[: [phase.stage for phase in joint].index(stage) + 1]
    before = list(incremental)
    if chosen is not None:
        latest = max(i for i, phase in enumerate(incremental) if set(phase.new) & set(chosen))
        before = before[: latest + 1]
        joint = [_phase(phase.stage, (), chosen, None) for phase in joint]
    chained = [replace(phase, parent=len(before) - 1 + i) for i, phase in enumerate(joint)]
    return Selection((*before, *chained), len(before) + len(chained) - 1)
