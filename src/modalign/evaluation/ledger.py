"""The forgetting ledger: after each phase every modality's score, and its change against its own phase's.

R[i, j] is the score on modality j after phase i; modality j's own phase is the one that added it. Backward and forward
transfer are those of Lopez-Paz and Ranzato (2017, Gradient Episodic Memory, section 2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modalign.evaluation.scores import Results, Score, results_from_dict

# Of a caption's metrics those that lie between 0 and 1, the one to be preferred first.
METRICS = ("attribute_accuracy", "rougeL")

Entry = tuple[str, Sequence[str], Results | Mapping[str, Any] | None]
"""A phase's name, its new modalities, and what its evaluation found (None: its results are not there)."""


@dataclass(frozen=True, slots=True)
class Forgetting:
    """The largest fall of any modality below its own phase's score; `change` is negative where something was lost."""

    modality: str
    phase: str
    change: float


@dataclass(frozen=True, slots=True)
class Ledger:
    """A matrix of phases by modalities (in the order of their own phases); None where nothing was measured.

    `beforehand` holds what a modality scored with the model that was about to learn it, at its start values;
    `unmeasured` names the phases of which no results are there: what they cost is not known.
    """

    phases: tuple[str, ...]
    modalities: tuple[str, ...]
    scores: tuple[tuple[Score | None, ...], ...]
    text_loss: tuple[float | None, ...]
    own_phase: Mapping[str, int]
    metric: str
    split: str
    beforehand: Mapping[str, Score] = field(default_factory=dict)
    text_tokens: tuple[int | None, ...] = ()
    unmeasured: tuple[str, ...] = ()

    @property
    def other_items(self) -> bool:
        """Whether a modality was measured on other items, or other numbers of them, after one phase than another."""
        for column in zip(*self.scores, strict=True):
            found = [score for score in column if score is not None]
            if len({score.n for score in found}) > 1 or len({score.items for score in found if score.items}) > 1:
                return True
        return False

    def value(self, phase: int, modality: str) -> float | None:
        """The modality's score after the phase."""
        score = self.scores[phase][self.modalities.index(modality)]
        return None if score is None else score.value

    def change(self, phase: int, modality: str) -> float | None:
        """The score after a phase minus that after the modality's own; None before and at its own phase."""
        own = self.own_phase[modality]
        then, now = self.value(own, modality), self.value(phase, modality)
        return now - then if phase > own and then is not None and now is not None else None

    def final_change(self, modality: str) -> float | None:
        """The change at the last phase."""
        return self.change(len(self.phases) - 1, modality)

    def worst_forgetting(self) -> Forgetting | None:
        """The most negative change of any modality at any later phase; None where there is no later phase."""
        changes = [
            Forgetting(modality, name, change)
            for phase, name in enumerate(self.phases)
            for modality in self.modalities
            if (change := self.change(phase, modality)) is not None
        ]
        return min(changes, key=lambda found: found.change, default=None)

    def backward_transfer(self) -> float | None:
        """The mean of R[last, j] - R[own phase of j, j] over the modalities j that came before the last phase."""
        changes = [c for modality in self.modalities if (c := self.final_change(modality)) is not None]
        return sum(changes) / len(changes) if changes else None

    def head_start(self, modality: str) -> float | None:
        """R[own phase - 1, j] - b[j]: what the phases before gave a modality that they never saw.

        b is the score of a model that knows nothing; chance stands for it, which no untrained model exceeds.
        """
        own = self.own_phase[modality]
        before = self.scores[own - 1][self.modalities.index(modality)] if own else None
        before = before or self.beforehand.get(modality)
        return None if before is None or before.chance is None else before.value - before.chance

    def forward_transfer(self) -> float | None:
        """The mean head start over the modalities that were scored before their own phase."""
        gains = [gain for modality in self.modalities if (gain := self.head_start(modality)) is not None]
        return sum(gains) / len(gains) if gains else None

    def text_loss_change(self, phase: int) -> float | None:
        """The plain-text loss's change against the first one measured, as a share of it (0.02 is 2 % worse).

        None where it was measured on another number of tokens: on other texts the loss is another one.
        """
        known = [(i, loss) for i, loss in enumerate(self.text_loss) if loss is not None]
        now, tokens = self.text_loss[phase], self.text_tokens or (None,) * len(self.text_loss)
        if now is None or phase == known[0][0] or tokens[phase] != tokens[known[0][0]]:
            return None
        return now / known[0][1] - 1

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a file or a chart: the matrix, the changes, the text loss and the summary numbers."""
        worst = self.worst_forgetting()
        return {
            "metric": self.metric,
            "split": self.split,
            "phases": list(self.phases),
            "modalities": list(self.modalities),
            "own_phase": dict(self.own_phase),
            "values": [[None if s is None else s.value for s in row] for row in self.scores],
            "changes": [[self.change(p, m) for m in self.modalities] for p in range(len(self.phases))],
            "beforehand": {name: score.value for name, score in self.beforehand.items()},
            "text_loss": list(self.text_loss),
            "worst_forgetting": None if worst is None else [worst.modality, worst.phase, worst.change],
            "backward_transfer": self.backward_transfer(),
            "forward_transfer": self.forward_transfer(),
            "unmeasured": list(self.unmeasured),
        }


def build_ledger(
    entries: Sequence[Entry], task: str = "caption", split: str = "test", metric: str | None = None
) -> Ledger:
    """The ledger of a curriculum's phases in order; a modality's own phase is the first that lists it as new.

    A modality that is scored but never new (its parent's phases are not listed) counts from where it is first scored.
    Without a `metric` it is the first of `METRICS` that was measured.
    """
    unmeasured = tuple(name for name, _, results in entries if results is None)
    found = [(name, tuple(new), _typed(results or Results(name, 0))) for name, new, results in entries]
    metric = metric or _measured_metric([results for _, _, results in found], task, split)
    own: dict[str, int] = {}
    for phase, (_, new, results) in enumerate(found):
        scored = [s.modality for s in results.scores if (s.task, s.split, s.metric) == (task, split, metric)]
        later = {m for _, names, _ in found[phase:] for m in names}
        for modality in (*(m for m in scored if m not in later), *new):
            own.setdefault(modality, phase)
    modalities = tuple(own)
    return Ledger(
        phases=tuple(name for name, _, _ in found),
        modalities=modalities,
        scores=tuple(tuple(r.find(m, task, split, metric) for m in modalities) for _, _, r in found),
        text_loss=tuple(None if r.text_loss is None else r.text_loss.value for _, _, r in found),
        own_phase=own,
        metric=metric,
        split=split,
        beforehand={
            s.modality: s for phase, (_, _, r) in enumerate(found) for s in r.before
            if (s.task, s.split, s.metric) == (task, split, metric) and own.get(s.modality) == phase
        },
        text_tokens=tuple(None if r.text_loss is None else r.text_loss.tokens for _, _, r in found),
        unmeasured=unmeasured,
    )  # fmt: skip


def _measured_metric(found: Sequence[Results], task: str, split: str) -> str:
    measured = {s.metric for results in found for s in results.scores if (s.task, s.split) == (task, split)}
    return next((metric for metric in METRICS if metric in measured), METRICS[0])


def _typed(results: Results | Mapping[str, Any]) -> Results:
    return results if isinstance(results, Results) else results_from_dict(results)
