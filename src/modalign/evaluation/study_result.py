"""What a study found: each arm's scores over its seeds, its paired difference to the baseline, and what it cost."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modalign.errors import ModalignError
from modalign.evaluation.paired import Digests, Estimate, Items, difference, mean_of
from modalign.evaluation.scores import Results, Score

Key = tuple[str, str, str]
"""Task, split, metric."""


@dataclass(frozen=True, slots=True)
class Phase:
    """One finished run of an arm: its name, what it taught anew, what was found after it, and what it read.

    `steps` are those that were not skipped.
    """

    run: str
    new: tuple[str, ...]
    results: Results
    steps: int
    samples: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """An arm with one seed: the chains of phases of its parts, each eldest first."""

    chains: tuple[tuple[Phase, ...], ...]

    def scores(self, keys: Sequence[Key], modalities: Sequence[str] = ()) -> dict[str, Score]:
        """The last run's scores of every part, by label; of a modality that several parts have, the last's."""
        found: dict[str, Score] = {}
        for chain in self.chains:
            for score in chain[-1].results.scores:
                key = (score.task, score.split, score.metric)
                if key in keys and (not modalities or score.modality in modalities):
                    found[label_of(score, keys)] = score
        return found

    def changes(self) -> dict[str, float]:
        """By modality, the last caption score on test minus the one after the phase that taught it."""
        changes: dict[str, float] = {}
        for chain in self.chains:
            for phase in chain[:-1]:
                for modality in phase.new:
                    name = (modality, "caption", "test", "attribute_accuracy")
                    then, now = phase.results.find(*name), chain[-1].results.find(*name)
                    if then is not None and now is not None:
                        changes[modality] = now.value - then.value
        return changes

    def phases(self) -> dict[str, Phase]:
        """Every run by name, one that several parts share once."""
        return {phase.run: phase for chain in self.chains for phase in chain}


@dataclass(frozen=True, slots=True)
class ArmResult:
    """One row of a study's table; shares in 0..1, `changes` and `text_loss` are means over seeds."""

    name: str
    settings: tuple[str, ...]
    seeds: tuple[int, ...]
    scores: Mapping[str, Estimate]
    chance: Mapping[str, float]
    mean: Estimate
    difference: Estimate | None
    differences: Mapping[str, Estimate]
    changes: Mapping[str, float]
    text_loss: float | None
    steps: int
    samples: int
    expert_distance: float | None
    router: Mapping[str, tuple[float, ...]]
    runs: tuple[str, ...]

    @property
    def worst_change(self) -> tuple[str, float] | None:
        """The modality that lost most since its own phase."""
        return min(self.changes.items(), key=lambda entry: entry[1], default=None)


@dataclass(frozen=True, slots=True)
class StudyResult:
    """A study's table; `missing` are arms and seeds that are not there (yet), as told to a reader."""

    study: str
    title: str
    baseline: str
    arms: tuple[ArmResult, ...]
    items: Mapping[str, int]
    missing: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    def as_bytes(self) -> bytes:
        """The content of result.json."""
        return (json.dumps(_rounded(dataclasses.asdict(self)), indent=1) + "\n").encode()


def arm_result(
    name: str,
    settings: Sequence[str],
    outcomes: Mapping[int, Outcome],
    baseline: Mapping[int, Outcome],
    keys: Sequence[Key],
    modalities: Sequence[str] = (),
) -> ArmResult:
    """One arm's row from its outcomes by seed."""
    items = _items(outcomes, keys, modalities)
    labels = list(next(iter(items.values())))
    scored = next(iter(outcomes.values())).scores(keys, modalities)
    mean = mean_of(items, labels)
    if mean is None:
        raise ModalignError(f"arm {name}: its seeds were not scored alike (scores: {', '.join(labels) or 'none'})")
    base = _items(baseline, keys, modalities)
    known = (_digests(outcomes, keys, modalities), _digests(baseline, keys, modalities))
    shared = [label for label in labels if base and label in next(iter(base.values()))]
    losses = [last.results.text_loss.value for o in outcomes.values() if (last := o.chains[-1][-1]).results.text_loss]
    first = next(iter(outcomes.values()))
    phases = first.phases()
    apart = [d for o in outcomes.values() if (d := _distance(o)) is not None]
    return ArmResult(
        name=name,
        settings=tuple(settings),
        seeds=tuple(outcomes),
        scores={label: found for label in labels if (found := mean_of(items, [label])) is not None},
        chance={label: score.chance for label, score in scored.items() if score.chance is not None},
        mean=mean,
        difference=difference(items, base, shared, known),
        differences={label: own for label in shared if (own := difference(items, base, [label], known)) is not None},
        changes=_means([outcome.changes() for outcome in outcomes.values()]),
        text_loss=sum(losses) / len(losses) if losses else None,
        steps=sum(phase.steps for phase in phases.values()),
        samples=sum(phase.samples for phase in phases.values()),
        expert_distance=sum(apart) / len(apart) if apart else None,
        router=first.chains[-1][-1].results.router,
        runs=tuple(run for outcome in outcomes.values() for run in outcome.phases()),
    )


def label_of(score: Score, keys: Sequence[Key]) -> str:
    """The modality, with as many words of task, split and metric as the compared scores need to be told apart."""
    told = [word for place, word in enumerate((score.task, score.split)) if len({key[place] for key in keys}) > 1]
    return " ".join([score.modality, *told])


def _items(outcomes: Mapping[int, Outcome], keys: Sequence[Key], modalities: Sequence[str]) -> Items:
    items: dict[int, dict[str, tuple[float, ...]]] = {}
    for seed, outcome in outcomes.items():
        items[seed] = {}
        for label, score in outcome.scores(keys, modalities).items():
            if not (shares := score.shares()):
                run = outcome.chains[-1][-1].run
                raise ModalignError(
                    f"{run}: its score of {label} keeps no hits by item: measure it again (modalign evaluate {run})"
                )
            items[seed][label] = shares
    return items


def _digests(outcomes: Mapping[int, Outcome], keys: Sequence[Key], modalities: Sequence[str]) -> Digests:
    return {
        seed: {label: score.items for label, score in outcome.scores(keys, modalities).items()}
        for seed, outcome in outcomes.items()
    }


def _distance(outcome: Outcome) -> float | None:
    """The mean distance between two experts of the last run, relative to their length."""
    table = outcome.chains[-1][-1].results.expert_distance
    apart = [value for row, values in enumerate(table) for column, value in enumerate(values) if column > row]
    return sum(apart) / len(apart) if apart else None


def _means(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = [name for name in (found[0] if found else {}) if all(name in each for each in found)]
    return {name: sum(each[name] for each in found) / len(found) for name in names}


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, Mapping):
        return {str(key): _rounded(child) for key, child in value.items()}
    return [_rounded(child) for child in value] if isinstance(value, (list, tuple)) else value
