"""The forgetting ledger: every score of every modality after every phase, against the modality's own phase."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from modalign.errors import ModalignError


@dataclass(frozen=True, slots=True)
class PhaseScores:
    """What was measured after one phase: one score a column (a modality, or the plain text of the language model)."""

    phase: str
    new: tuple[str, ...]
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Ledger:
    """The matrix of phases by columns, and what changed in each column since the phase that taught it.

    A column's own phase is the one that has it as new, or else the first that has a score of it. Columns in `lower`
    are better when smaller (a loss). Every change is signed so that negative is worse, in the scores' own unit.
    """

    rows: tuple[PhaseScores, ...]
    lower: frozenset[str] = frozenset()
    chance: Mapping[str, float] = field(default_factory=dict)

    @property
    def phases(self) -> tuple[str, ...]:
        """The phases in order of execution."""
        return tuple(row.phase for row in self.rows)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns in the order in which they were taught, then those that no phase taught."""
        taught = [name for row in self.rows for name in row.new]
        return tuple(dict.fromkeys([*taught, *(name for row in self.rows for name in row.scores)]))

    def matrix(self) -> list[list[float | None]]:
        """Scores by phase (rows) and column; None where nothing was measured."""
        return [[row.scores.get(name) for name in self.columns] for row in self.rows]

    def own_phase(self, column: str) -> int | None:
        """The row that `column` is compared against, None if it was never measured."""
        for index, row in enumerate(self.rows):
            if column in row.new:
                return index if column in row.scores else None
        return next((index for index, row in enumerate(self.rows) if column in row.scores), None)

    def change(self, row: int, column: str) -> float | None:
        """The score of `column` after phase `row` less its score after its own phase; None before it, or unmeasured."""
        own = self.own_phase(column)
        if own is None or row < own or column not in self.rows[row].scores:
            return None
        difference = self.rows[row].scores[column] - self.rows[own].scores[column]
        return -difference if column in self.lower else difference

    def changes(self) -> list[list[float | None]]:
        """`change` for the whole matrix."""
        return [[self.change(row, name) for name in self.columns] for row in range(len(self.rows))]

    def forgetting(self) -> dict[str, float]:
        """How far each column lies below its own phase after the last phase that measured it; 0 where it does not."""
        return {name: max(0.0, -changes[-1]) for name, changes in self._later().items()}

    def worst(self) -> dict[str, float]:
        """The furthest that each column ever fell below its own phase."""
        return {name: max(0.0, -min(changes)) for name, changes in self._later().items()}

    def backward_transfer(self) -> float | None:
        """Mean last change over the columns that a phase taught and a later one measured (negative: forgetting)."""
        taught = {name for row in self.rows for name in row.new}
        return _mean([changes[-1] for name, changes in self._later().items() if name in taught])

    def forward_transfer(self) -> float | None:
        """Mean, over columns with a known chance, of the score just before their own phase less that chance."""
        gains: list[float] = []
        for name, chance in self.chance.items():
            own = self.own_phase(name)
            if own and name in self.rows[own - 1].scores:
                gain = self.rows[own - 1].scores[name] - chance
                gains.append(-gain if name in self.lower else gain)
        return _mean(gains)

    def check(self, at_most: float) -> None:
        """The gate: an error if any column fell by more than `at_most` after the last phase that measured it."""
        fallen = {name: drop for name, drop in self.forgetting().items() if drop > at_most}
        if fallen:
            name = max(fallen, key=lambda column: fallen[column])
            own = self.own_phase(name) or 0
            raise ModalignError(
                f"forgetting above the gate after phase {self.phases[-1]}: {name} fell by {fallen[name]:.4g} from "
                f"{self.rows[own].scores[name]:.4g} (phase {self.phases[own]}), allowed {at_most:g}; raise the replay "
                f"share (stage.replay), train only what is new (stage.train=new) or widen the gate"
            )

    def _later(self) -> dict[str, list[float]]:
        """Changes after each column's own phase, for the columns that a later phase measured."""
        later: dict[str, list[float]] = {}
        for name in self.columns:
            own = self.own_phase(name)
            rows: Sequence[int] = () if own is None else range(own + 1, len(self.rows))
            changes = [change for row in rows if (change := self.change(row, name)) is not None]
            if changes:
                later[name] = changes
        return later


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
