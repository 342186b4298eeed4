"""From settings to runs: each phase with its sources, steps and identity, worked out before torch is imported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from modalign.config.meaning import (
    ADAPTER_SETTING,
    BY_PHASE,
    aligned_meaning,
    backbone_meaning,
    common_meaning,
    measuring_meaning,
)
from modalign.config.phase_settings import changed, changes_of
from modalign.config.recipes import RecipeBook
from modalign.config.references import check_parts, check_references, trains_adapters
from modalign.config.schema import Settings, StageSettings
from modalign.config.shipped import shipped_backbones
from modalign.curriculum.order import Groups, by_size, declared_groups
from modalign.curriculum.phases import Phase, plan_phases, select
from modalign.curriculum.replay import ReplayRule, phase_steps, shares
from modalign.curriculum.shares import bounded, weighted_shares
from modalign.data.recipes import make_hint
from modalign.errors import ModalignError, unknown_name
from modalign.runs.identity import identity, run_name

NEW = "new"  # what an additive phase trains: the new modality's own parts


@dataclass(frozen=True)
class RunSpec:
    """One run to be: what trains on what for how long, what it stands on, and the identity that all this has."""

    name: str
    identity: str
    stage: str
    new: tuple[str, ...]
    seen: tuple[str, ...]
    shares: dict[str, Fraction]
    recipes: tuple[str, ...]
    steps: int
    num_experts: int | None
    parent: RunSpec | None
    meaning: dict[str, Any]
    requested: bool = True
    train: tuple[str, ...] | str = ()
    stage_settings: StageSettings | None = None
    measuring: dict[str, Any] = field(default_factory=dict)

    @property
    def adapters(self) -> bool:
        """Whether the language model has its adapters: from the run on that trains them."""
        return bool(self.meaning.get("model", {}).get("language_model", {}).get(ADAPTER_SETTING))

    @property
    def modalities(self) -> tuple[str, ...]:
        """All modalities that the run's model has, earlier ones first."""
        return (*self.seen, *(m for m in self.new if m not in self.seen))

    @property
    def drawn(self) -> str:
        """What the order of its samples is drawn for: a phase that stands on others reads them in an order of its own,
        so that replay brings other samples than those that the phase before has read."""
        return f"{self.stage} {'+'.join(self.new)}" if BY_PHASE in self.meaning.get("order", ()) else ""

    def folder(self, runs: Path) -> Path:
        """Where the run lies."""
        return runs / self.name


class Planner:
    """Turns the command's settings into runs, ancestors first."""

    def __init__(self, settings: Settings, book: RecipeBook) -> None:
        self.settings = settings
        self.book = book

    def plan(self) -> list[RunSpec]:
        """Every run that the command needs, in order; `requested` marks those asked for rather than stood on."""
        stage, wanted = self.settings.stage, self.settings.requested()
        if stage is not None and stage not in self.settings.stages:
            raise unknown_name("stage", stage, self.settings.stages)
        if wanted and stage is None:
            raise ModalignError(f"modality={','.join(wanted)} needs a stage: add stage=align or stage=instruct")
        for name in wanted:
            if name not in self.settings.modalities:
                raise unknown_name("modality", name, self.settings.modalities)
        check_references(self.settings, self.book)
        if stage is not None and self.settings.stages[stage].backbone is not None:
            return self._backbone_chain(stage)
        groups = self._groups()
        selection = select(plan_phases(groups), stage, wanted or None)
        backbones = self._shipped() if self.settings.model.backbones_from else self._backbones(self._own_backbones())
        made: list[RunSpec] = []
        for number, phase in enumerate(selection.phases):
            first = backbones[-1] if backbones else None
            parent = first if phase.parent is None else made[phase.parent]
            requested = number >= selection.num_ancestors
            made.append(replace(self._phase(phase, parent, requested, groups), requested=requested))
        return [*(replace(spec, requested=False) for spec in backbones), *made]

    def _own_backbones(self) -> list[str]:
        """The stages that make what the model is built from; none makes a language model where one is named."""
        named = isinstance(self.settings.model.language_model.get("source"), str)
        stages = self.settings.stages
        return [name for name in self.settings.model.backbones if not (named and "llm" in stages[name].train)]

    def _groups(self) -> Groups:
        known, additive = self._with_recipes(), self.settings.curriculum.additive
        declared = [name for name in known if name not in additive]
        last = tuple((name,) for name in additive if name in known)
        return (*self._whole_groups(declared), *last) if declared else last

    def _whole_groups(self, declared: list[str]) -> Groups:
        order = self.settings.curriculum.groups
        if order == "joint":
            return (tuple(declared),)
        if isinstance(order, str):
            groups = by_size({name: self._size(name) for name in declared}, declared)
            return groups if order == "by_size" else tuple(reversed(groups))
        return declared_groups(order, declared)

    def _with_recipes(self) -> list[str]:
        """The modalities that take part: those with a recipe, in declared order."""
        missing = [m for m in self.settings.requested() if not self.book.alignment_recipes(m)]
        if missing:
            carriers = ", ".join(self.book.carrying(missing[0])) or "none"
            raise ModalignError(
                f"modality '{missing[0]}' has no recipe to be aligned with; recipes that carry it: {carriers}: "
                f"write `recipes: [<one of them>]` into its YAML, or add +data.align.{missing[0]}=[<one of them>]"
            )
        return [name for name in self.settings.modalities if self.book.alignment_recipes(name)]

    def _size(self, modality: str) -> int:
        names = self.book.alignment_recipes(modality)
        size = sum(self.book.num_samples(name, "train") for name in names)
        if not size:
            recipes = [(self.book.folder(name), make_hint(self.book.get(name))) for name in names]
            hints = "; ".join(f"nothing at {folder}, {hint}" for folder, hint in recipes)
            raise ModalignError(f"modality '{modality}' has no training samples yet: {hints}")
        return size

    def _backbone_chain(self, stage: str) -> list[RunSpec]:
        names = self._own_backbones()
        if stage in self.settings.model.backbones and stage not in names:
            raise ModalignError(
                f"stage={stage} trains a language model from scratch, and model.language_model.source="
                f"{self.settings.model.language_model['source']} names one that is trained: leave one of them out"
            )
        chain = self._backbones((*names[: names.index(stage)], stage) if stage in names else (stage,))
        return [*(replace(spec, requested=False) for spec in chain[:-1]), chain[-1]]

    def _shipped(self) -> list[RunSpec]:
        """The package's own backbones: known by what they are, not by what these settings would make."""
        chain: list[RunSpec] = []
        for made in shipped_backbones(self.settings, self.settings.model.backbones):
            stage, above = self.settings.stages[made.stage], chain[-1] if chain else None
            seen = tuple(made.modalities["seen"])
            shipped = RunSpec(
                made.name, made.identity, made.stage, (), seen, {}, (), made.steps, None, above, made.spec,
                train=stage.train, stage_settings=stage,
            )  # fmt: skip
            chain.append(shipped)
        return chain

    def _backbones(self, stages: Sequence[str]) -> list[RunSpec]:
        """The runs that make the model's backbones, each the parent of the next."""
        chain: list[RunSpec] = []
        for stage in stages:
            recipes = getattr(self.settings.data, stage)
            if not recipes:
                raise ModalignError(f"stage {stage} has no recipe: set data.{stage}=[<recipe>]")
            media = tuple(dict.fromkeys(m for name in recipes for m in self.book.media(name)))
            weights = weighted_shares({name: float(self.book.num_samples(name, "train")) for name in recipes})
            phase = Phase(stage, stage, (), media, None)
            own, above = self.settings.stages[stage], chain[-1] if chain else None
            chain.append(self._spec(phase, own, weights, self._steps(stage), None, above, own.train))
        return chain

    def _phase(self, phase: Phase, parent: RunSpec | None, requested: bool, groups: Groups) -> RunSpec:
        changes = changes_of(self.settings, phase, groups)
        settings = changed(self.settings.stages[phase.stage], changes)
        train = self._trains(phase, settings, requested)
        if phase.stage == "align":
            mixture, steps = self._align_mixture(phase, settings, train, None if settings.steps else changes.steps)
        else:
            mixture, steps = self._instruct_mixture(phase), self._steps(phase.stage)
        first = phase.parent is None and self.settings.curriculum.first_phase_experts
        # More experts than the parent has would change what earlier modalities say, and a phase without a new one would
        # copy experts that it neither trains nor keeps.
        experts = parent.num_experts if parent and (train == NEW or not phase.new) else first or None
        return self._spec(phase, settings, mixture, steps, experts, parent, train)

    def _trains(self, phase: Phase, settings: StageSettings, requested: bool) -> tuple[str, ...] | str:
        """What the phase trains. Additive (`new`) is a phase of a modality that the curriculum adds so, and one that
        was asked for and has earlier ones to leave alone."""
        added = set(phase.new) & set(self.settings.curriculum.additive)
        if added and phase.stage == "align" and phase.parent is not None:
            return NEW
        if settings.train != NEW or (requested and phase.parent is not None and phase.new):
            return settings.train
        if not settings.parts:
            raise ModalignError(
                f"stages.{phase.stage}.train=new: nothing says what {phase.name} trains, which is not additive: "
                f"set stages.{phase.stage}.parts"
            )
        return settings.parts

    def _align_mixture(
        self, phase: Phase, settings: StageSettings, train: tuple[str, ...] | str, whole: int | None
    ) -> tuple[dict[str, Fraction], int]:
        rule = ReplayRule.parse("none" if train == NEW else settings.replay)
        sizes = {m: self._size(m) for m in (*phase.seen, *phase.new)}
        by_modality = shares(phase.new, phase.seen, sizes, rule)
        steps = whole or sum(self._steps(phase.stage, modality) for modality in phase.new)
        batch = settings.slice_size * settings.slices_per_step
        total = phase_steps(steps * batch, batch, by_modality, phase.new, settings.replay_keep)
        mixture: dict[str, Fraction] = {}
        for modality, share in by_modality.items():
            recipes = self.book.alignment_recipes(modality)
            for name, part in weighted_shares({r: float(self.book.num_samples(r, "train")) for r in recipes}).items():
                mixture[name] = mixture.get(name, Fraction(0)) + share * part
        return bounded({name: share for name, share in mixture.items() if share}), total

    def _steps(self, stage: str, modality: str | None = None) -> int:
        """Optimizer steps of a stage, or of new samples of a modality: the stage's own word before the curriculum's."""
        by_modality = self.settings.curriculum.steps
        budget = by_modality.get(modality, by_modality.get("default")) if modality else None
        steps = self.settings.stages[stage].steps or budget
        if steps is None:
            also = f" or curriculum.steps.{modality}" if modality else ""
            raise ModalignError(f"nothing says how long stage {stage} trains: set stages.{stage}.steps{also}")
        return steps

    def _instruct_mixture(self, phase: Phase) -> dict[str, Fraction]:
        known = set(phase.seen) | set(phase.new)
        weights = {name: w for name, w in self.settings.data.instruct.items() if set(self.book.media(name)) <= known}
        if not weights:
            raise ModalignError(f"instruct: no recipe of data.instruct carries only {', '.join(sorted(known))}")
        return weighted_shares(weights)

    def _spec(
        self,
        phase: Phase,
        stage: StageSettings,
        mixture: dict[str, Fraction],
        steps: int,
        experts: int | None,
        parent: RunSpec | None,
        train: tuple[str, ...] | str,
    ) -> RunSpec:
        check_parts(self.settings, phase.stage)
        modalities = (*phase.seen, *phase.new)
        above = parent.identity if parent else None
        meaning = common_meaning(self.settings, self.book, phase, stage, mixture, steps, above)
        meaning["stage"][1]["train"] = train
        if stage.backbone is not None:
            meaning |= backbone_meaning(self.settings, modalities)
        else:
            adapters = trains_adapters(train) or (parent is not None and parent.adapters)
            meaning |= aligned_meaning(self.settings, phase, modalities, experts, adapters)
        full = identity(meaning)
        return RunSpec(
            name=run_name(phase.stage, phase.new or (modalities if phase.stage == "instruct" else ()), full),
            identity=full,
            stage=phase.stage,
            new=phase.new,
            seen=phase.seen,
            shares=mixture,
            recipes=tuple(mixture),
            steps=steps,
            num_experts=experts,
            parent=parent,
            meaning=meaning,
            train=train,
            stage_settings=stage,
            measuring={} if stage.backbone is not None else measuring_meaning(self.settings, stage.template == "chat"),
        )
