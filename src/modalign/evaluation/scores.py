"""What an evaluation found, typed, and its file results.json: read by the report and the ledger without torch."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from modalign.errors import ModalignError, unknown_name

RESULTS_FILE = "results.json"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Detail:
    """One attribute's (or one kind of question's) share of a score; all shares in 0..1."""

    value: float
    chance: float | None
    n: int
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """One number of an evaluation with its interval (95 %), the chance level beside it and the items it stands on.

    `task` is caption, answer or pair; `split` val, test or test_unseen; `metric` attribute_accuracy, exact_match,
    cider, bleu4 or rougeL. `note` says what a reader must know to compare the number with others'. `hits` tells of
    each item, in order, how much of it was right (`3/4 4/4`): what two runs over the same items are compared by.
    `items` is a digest of those items, their files and what was expected of them (empty: from before it was kept).
    """

    modality: str
    task: str
    split: str
    metric: str
    value: float
    low: float
    high: float
    chance: float | None
    n: int
    detail: Mapping[str, Detail] = field(default_factory=dict)
    note: str | None = None
    hits: str = field(default="", repr=False)
    items: str = field(default="", repr=False)

    def shares(self) -> tuple[float, ...]:
        """Of each item the share that was right, in 0..1; none where the score keeps no hits."""
        pairs = [word.partition("/") for word in self.hits.split()]
        return tuple(int(right) / int(asked) for right, _, asked in pairs)


@dataclass(frozen=True, slots=True)
class TextLoss:
    """The language model's loss on plain text, nats per token, over `tokens` tokens."""

    value: float
    tokens: int


@dataclass(frozen=True, slots=True)
class ShownSample:
    """One evaluated item kept for the report: its media files (relative to the run folder) and the texts.

    `right` None leaves the verdict to the report (equal after normalisation). `display` names how a medium is to be
    shown (see `report.media`), where its file's extension does not tell; `rate_hz`, `channels`, `unit`, `max_m`
    and the like go to `axes`, by modality.
    """

    modality: str
    split: str
    key: str
    media: Mapping[str, str]
    reference: str
    generated: str
    question: str | None = None
    right: bool | None = None
    display: Mapping[str, str] = field(default_factory=dict)
    axes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Results:
    """One run's evaluation: the content of results.json; `before` is of the new modalities, before the first step."""

    run: str
    step: int
    scores: tuple[Score, ...] = ()
    text_loss: TextLoss | None = None
    router: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    expert_distance: tuple[tuple[float, ...], ...] = ()
    samples: tuple[ShownSample, ...] = ()
    before: tuple[Score, ...] = ()

    def find(self, modality: str, task: str, split: str, metric: str) -> Score | None:
        """The score of that modality, task, split and metric, or None."""
        wanted = (modality, task, split, metric)
        return next((s for s in self.scores if (s.modality, s.task, s.split, s.metric) == wanted), None)

    def as_dict(self) -> dict[str, Any]:
        """Plain dicts and lists, as written to results.json."""
        return dataclasses.asdict(self)


def results_from_dict(data: Mapping[str, Any], where: str = RESULTS_FILE) -> Results:
    """Typed results from a plain dict; a missing or unknown field raises ModalignError naming it."""
    fields = dict(data)
    fields["scores"] = tuple(_score(row, where) for row in data.get("scores") or ())
    fields["before"] = tuple(_score(row, where) for row in data.get("before") or ())
    fields["text_loss"] = _build(TextLoss, data["text_loss"], where) if data.get("text_loss") else None
    fields["router"] = {name: tuple(row) for name, row in (data.get("router") or {}).items()}
    fields["expert_distance"] = tuple(tuple(row) for row in data.get("expert_distance") or ())
    fields["samples"] = tuple(_build(ShownSample, row, where) for row in data.get("samples") or ())
    return _build(Results, fields, where)


def read_results(path: Path) -> Results:
    """Results from a results.json, or from the run folder that holds one."""
    file = path / RESULTS_FILE if path.is_dir() else path
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModalignError(f"{file} does not exist: evaluate the run first (modalign evaluate RUN)") from None
    except (OSError, ValueError) as error:
        raise ModalignError(f"{file} cannot be read as JSON: {error}; evaluate the run again") from error
    return results_from_dict(data, str(file))


def results_bytes(results: Results) -> bytes:
    """The content of results.json; a value that is not finite raises ModalignError naming the score."""
    for score in (*results.scores, *results.before):
        if not all(math.isfinite(value) for value in (score.value, score.low, score.high)):
            raise ModalignError(
                f"score {score.metric} of {score.modality} ({score.task}, {score.split}) is {score.value} "
                f"[{score.low}, {score.high}]: results hold finite numbers only"
            )
    try:
        return (json.dumps(results.as_dict(), indent=1, allow_nan=False) + "\n").encode("utf-8")
    except ValueError as error:
        raise ModalignError(f"results of run {results.run} hold a number that is not finite: {error}") from error


def _score(row: Mapping[str, Any], where: str) -> Score:
    for name in ("value", "low", "high", "n"):
        if isinstance(row.get(name), bool) or not isinstance(row.get(name, 0), (int, float)):
            told = f"score {row.get('metric')} of {row.get('modality')}: {name} is {row[name]!r}, no number"
            raise ModalignError(f"{where}: {told}; evaluate the run again (modalign evaluate RUN)")
    detail = {name: _build(Detail, part, where) for name, part in (row.get("detail") or {}).items()}
    return _build(Score, {**row, "detail": detail}, where)


def _build(kind: type[T], data: Mapping[str, Any], where: str) -> T:
    known = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for name in data:
        if name not in known:
            raise unknown_name(f"{kind.__name__} field", name, known, where)
    try:
        return kind(**data)
    except TypeError as error:
        missing = str(error).split(": ", 1)[-1]
        raise ModalignError(f"{where}: a {kind.__name__} lacks {missing}") from None
