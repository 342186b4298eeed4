"""A benchmark's answers scored: each metric that a recipe may name, as one function over what was asked and said."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from modalign.data.benchmark import CAPTION_METRICS, Benchmark
from modalign.errors import ModalignError
from modalign.evaluation.choices import ClassList, chosen_letter, contains, yes_or_no
from modalign.evaluation.intervals import bootstrap, bootstrap_mean, wilson
from modalign.evaluation.metrics import caption_scores, is_exact_match
from modalign.evaluation.scores import Detail, Score
from modalign.evaluation.vqa import vqa_accuracy, vqa_normalise
from modalign.evaluation.words import normalise

_MME_FULL = 100


@dataclass(frozen=True, slots=True)
class Answered:
    """One item of a benchmark, what was asked of it, and what the model said."""

    key: str
    question: str
    text: str
    references: tuple[str, ...]
    """What is right: an answer, a label, a letter, or captions."""
    annotators: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    kept: Mapping[str, Any] = field(default_factory=dict)

    @property
    def right(self) -> int | None:
        """The place of the right option."""
        return string.ascii_uppercase.index(self.references[0]) if self.options else None


def answered(key: str, record: Mapping[str, Any], question: str, text: str) -> Answered:
    """From a sample's record; its first turn is the one that counts."""
    kept = record.get("kept") or {}
    if turns := record.get("conversation"):
        turn = turns[0]
        return Answered(
            key, question, text, (str(turn["answer"]),), tuple(turn.get("answers") or ()),
            tuple(turn.get("options") or ()), kept,
        )  # fmt: skip
    captions = record.get("captions") or [record.get("caption", "")]
    return Answered(key, question, text, tuple(map(str, captions)), (), (), kept)


def worded(benchmark: Benchmark, record: Mapping[str, Any]) -> str:
    """What a sample is asked: the benchmark's prompt with its question, its options and the class list."""
    turn = (record.get("conversation") or [{}])[0]
    options = zip(string.ascii_uppercase, turn.get("options") or (), strict=False)
    return benchmark.prompt.format(
        question=turn.get("question", ""),
        options=" ".join(f"{letter}. {option}" for letter, option in options),
        classes=", ".join(name.replace("_", " ") for name in benchmark.classes),
    ).strip()


def benchmark_scores(
    benchmark: Benchmark, items: Sequence[Answered], name: str, modality: str, tokenisation: str = "simple"
) -> list[Score]:
    """The scores of a benchmark in the order of its metrics; raises ModalignError where nothing was answered."""
    if not items:
        raise ModalignError(f"benchmark {name} has no item to score: its split '{benchmark.split}' is empty")
    captions = [metric for metric in benchmark.metrics if metric in CAPTION_METRICS]
    found: dict[str, Score] = {}
    if captions:
        scores = caption_scores(
            [item.text for item in items], [list(item.references) for item in items], modality, benchmark.split, name,
            tokenisation,
        )  # fmt: skip
        found = {score.metric: score for score in scores}
    make = Maker(benchmark, name, modality)
    for metric in benchmark.metrics:
        if metric not in found:
            found[metric] = _METRICS[metric](make, items)
    return [found[metric] for metric in benchmark.metrics]


@dataclass(frozen=True, slots=True)
class Maker:
    """What every score of a benchmark has in common."""

    benchmark: Benchmark
    name: str
    modality: str

    def shares(self, metric: str, items: Sequence[Answered], shares: Sequence[float], chance: float | None) -> Score:
        """The mean of shares, of each group as details; hits have Wilson's interval, shares a bootstrap."""
        groups: dict[str, list[float]] = {}
        if self.benchmark.group is not None:
            for item, share in zip(items, shares, strict=True):
                groups.setdefault(str(item.kept.get(self.benchmark.group)), []).append(share)
        details = {
            group: Detail(float(np.mean(own)), None, len(own), *_interval(own)) for group, own in sorted(groups.items())
        }
        value, (low, high) = float(np.mean(shares)), _interval(shares)
        return Score(
            self.modality, self.name, self.benchmark.split, metric, value, low, high, chance, len(shares), details
        )


def _interval(shares: Sequence[float]) -> tuple[float, float]:
    if set(shares) <= {0.0, 1.0}:
        return wilson(sum(shares), len(shares))
    return bootstrap_mean(shares, share=True)


def _vqa(make: Maker, items: Sequence[Answered]) -> Score:
    """Answers are normalised before the official rule sees them, as they are written for its script."""
    shares = [vqa_accuracy(vqa_normalise(item.text), item.annotators or item.references) for item in items]
    return make.shares("vqa", items, shares, None)


def _exact(make: Maker, items: Sequence[Answered]) -> Score:
    shares = [float(is_exact_match(item.text, item.references)) for item in items]
    return make.shares("exact", items, shares, _most_frequent(items))


def _contains(make: Maker, items: Sequence[Answered]) -> Score:
    shares = [float(any(contains(item.text, reference) for reference in item.references)) for item in items]
    return make.shares("contains", items, shares, None)


def _letter(make: Maker, items: Sequence[Answered]) -> Score:
    """The right option chosen; with a `unit`, in every one of its passes (MMBench's circular evaluation)."""
    hits = [item.right is not None and chosen_letter(item.text, item.options) == item.right for item in items]
    units = _units(make.benchmark, items)
    firsts = [items[places[0]] for places in units]
    shares = [float(all(hits[place] for place in places)) for places in units]
    chances = [float(np.prod([1 / max(len(items[place].options), 1) for place in places])) for places in units]
    return make.shares("letter", firsts, shares, float(np.mean(chances)))


def _class(make: Maker, items: Sequence[Answered]) -> Score:
    """The right class named, and no other one; chance is that of naming the most frequent class."""
    classes = ClassList(make.benchmark.classes or sorted({item.references[0] for item in items}))
    labels = [classes.of(item.references[0]) for item in items]
    shares = [float(classes.named(item.text) == {label}) for item, label in zip(items, labels, strict=True)]
    return make.shares("class", items, shares, max(Counter(labels).values()) / len(labels))


def _mme(make: Maker, items: Sequence[Answered]) -> Score:
    """MME's points: for each task of `classes` 100 x (accuracy + share of pictures with both answers right), summed.

    Details tell each task's accuracy, chance a half. The interval is a bootstrap over pictures within each task.
    """
    tasks: dict[str, list[list[float]]] = {}
    for places in _units(make.benchmark, items):
        task = str(items[places[0]].kept.get(make.benchmark.group or "task"))
        pair = [float(yes_or_no(items[p].text) == normalise(items[p].references[0])) for p in places]
        tasks.setdefault(task, []).append(pair)
    chosen = {task: tasks[task] for task in (make.benchmark.classes or sorted(tasks)) if task in tasks}
    if not chosen:
        raise ModalignError(f"benchmark {make.name}: none of its tasks ({', '.join(make.benchmark.classes)}) was asked")
    spread = [_spread(pairs) for pairs in chosen.values()]
    total = sum(_points(pairs) for pairs in chosen.values())
    # Tasks are independent, so that the half widths of their sum add as squares.
    low, high = (
        float(np.sqrt(sum((end[side] - _points(own)) ** 2 for end, own in zip(spread, chosen.values(), strict=True))))
        for side in (0, 1)
    )
    details = {}
    for task, pairs in chosen.items():
        flat = [hit for pair in pairs for hit in pair]
        details[task] = Detail(float(np.mean(flat)), 0.5, len(flat), *wilson(sum(flat), len(flat)))
    count = sum(part.n for part in details.values())
    return Score(
        make.modality, make.name, make.benchmark.split, "mme", total, total - low, total + high,
        0.75 * _MME_FULL * len(chosen), count, details,
    )  # fmt: skip


def _spread(pairs: Sequence[Sequence[float]]) -> tuple[float, float]:
    return bootstrap(_counts(pairs), _points_of)


def _points(pairs: Sequence[Sequence[float]]) -> float:
    return float(_points_of(_counts(pairs).sum(axis=0, keepdims=True))[0])


def _counts(pairs: Sequence[Sequence[float]]) -> np.ndarray:
    """Of each picture the answers that are right, how many there are, whether all are right, and one."""
    return np.array([(sum(pair), len(pair), all(pair), 1) for pair in pairs], dtype=np.float64)


def _points_of(sums: np.ndarray) -> np.ndarray:
    return _MME_FULL * (sums[:, 0] / sums[:, 1] + sums[:, 2] / sums[:, 3])


def _units(benchmark: Benchmark, items: Sequence[Answered]) -> list[list[int]]:
    """The places of the items that count together, each alone without a `unit`."""
    if benchmark.unit is None:
        return [[place] for place in range(len(items))]
    units: dict[str, list[int]] = {}
    for place, item in enumerate(items):
        group = item.kept.get(benchmark.group) if benchmark.group else ""
        units.setdefault(f"{group}/{item.kept.get(benchmark.unit, item.key)}", []).append(place)
    return list(units.values())


def _most_frequent(items: Sequence[Answered]) -> float:
    return max(Counter(normalise(item.references[0]) for item in items).values()) / len(items)


_METRICS: Mapping[str, Callable[[Maker, Sequence[Answered]], Score]] = {
    "vqa": _vqa, "exact": _exact, "contains": _contains, "letter": _letter, "class": _class, "mme": _mme,
}  # fmt: skip
