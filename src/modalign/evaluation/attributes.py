"""Attribute accuracy: does a caption name what the sensor shows, measured word by word, beside what guessing gives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from modalign.errors import ModalignError, unknown_name
from modalign.evaluation.intervals import bootstrap_mean, wilson
from modalign.evaluation.scores import Detail, Score
from modalign.evaluation.words import words

Vocabulary = Mapping[str, Sequence[str] | Mapping[str, Sequence[str]]]
"""Each attribute's values; a mapping gives each value the only wordings that name it (seven: [seven, 7])."""


def named_values(caption: str, values: Sequence[str] | Mapping[str, Sequence[str]]) -> set[str]:
    """Which of an attribute's values the caption names, word by word.

    Longer wordings are looked for first and use up their words, so that "top left" is not also "left". Values given
    as a plain list are named by their regular plural too ("cubes" names cube), unless that is a value of its own.
    """
    return _named(words(caption), _wordings(values))


def attribute_hits(caption: str, attributes: Mapping[str, str], vocabulary: Vocabulary) -> dict[str, bool]:
    """For each attribute whether the caption names its true value and no other one."""
    return {name: named_values(caption, _values(vocabulary, name)) == {str(true)} for name, true in attributes.items()}


def attribute_accuracy(
    captions: Sequence[str],
    attributes: Sequence[Mapping[str, str]],
    vocabulary: Vocabulary,
    modality: str,
    split: str,
    task: str = "caption",
    chance: str = "majority",
) -> Score:
    """The mean over items of the share of an item's attributes that its caption names rightly.

    Naming several different values of an attribute is wrong. `chance` is what a caption would score that always named
    each attribute's most frequent value among these items (`majority`), or one drawn evenly (`uniform`).
    Interval: bootstrap over items; by attribute: Wilson. Raises ModalignError for a true value that is not listed.
    """
    if len(captions) != len(attributes):
        raise ModalignError(f"{len(captions)} captions but {len(attributes)} items with attributes ({modality})")
    tables = {name: _wordings(values) for name, values in vocabulary.items()}
    hits = [_item_hits(caption, item, tables) for caption, item in zip(captions, attributes, strict=True)]
    levels = _chance_levels(attributes, tables, chance)
    scored = [(item, [levels[name] for name in item]) for item in hits if item]
    shares = [float(np.mean(list(item.values()))) for item, _ in scored]
    if not shares:
        raise ModalignError(f"no item of {modality} ({split}) has an attribute to score: check its 'attributes'")
    low, high = bootstrap_mean(shares, share=True)
    return Score(
        modality, task, split, "attribute_accuracy", float(np.mean(shares)), low, high,
        float(np.mean([np.mean(level) for _, level in scored])), len(shares), _details(hits, levels),
        hits=" ".join(f"{sum(item.values())}/{len(item)}" for item, _ in scored),
    )  # fmt: skip


def _item_hits(
    caption: str, attributes: Mapping[str, str], tables: Mapping[str, dict[tuple[str, ...], str]]
) -> dict[str, bool]:
    tokens = words(caption)
    hits = {}
    for name, true in attributes.items():
        if name not in tables:
            raise unknown_name("attribute", name, tables)
        if str(true) not in tables[name].values():
            raise unknown_name(f"value of attribute '{name}'", str(true), set(tables[name].values()))
        hits[name] = _named(tokens, tables[name]) == {str(true)}
    return hits


def _chance_levels(
    attributes: Sequence[Mapping[str, str]], tables: Mapping[str, dict[tuple[str, ...], str]], chance: str
) -> dict[str, float]:
    if chance not in ("majority", "uniform"):
        raise ModalignError(f"chance '{chance}' is unknown: use 'majority' or 'uniform'")
    counts: dict[str, Counter[str]] = {}
    for item in attributes:
        for name, true in item.items():
            counts.setdefault(name, Counter())[str(true)] += 1
    if chance == "uniform":
        return {name: 1 / len(set(tables[name].values())) for name in counts}
    return {name: max(count.values()) / count.total() for name, count in counts.items()}


def _details(hits: Sequence[Mapping[str, bool]], levels: Mapping[str, float]) -> dict[str, Detail]:
    details = {}
    for name, level in levels.items():
        verdicts = [item[name] for item in hits if name in item]
        low, high = wilson(sum(verdicts), len(verdicts))
        details[name] = Detail(sum(verdicts) / len(verdicts), level, len(verdicts), low, high)
    return details


def _values(vocabulary: Vocabulary, name: str) -> Sequence[str] | Mapping[str, Sequence[str]]:
    if name not in vocabulary:
        raise unknown_name("attribute", name, vocabulary)
    return vocabulary[name]


def _wordings(values: Sequence[str] | Mapping[str, Sequence[str]]) -> dict[tuple[str, ...], str]:
    """Word sequences that name a value, longest first."""
    if isinstance(values, Mapping):
        table = {tuple(words(str(wording))): str(value) for value, wordings in values.items() for wording in wordings}
    else:
        names = {tuple(words(str(value))): str(value) for value in values}
        table = {(*name[:-1], name[-1] + end): value for name, value in names.items() if name for end in ("s", "es")}
        table |= names
    return dict(sorted(table.items(), key=lambda entry: -len(entry[0])))


def _named(tokens: list[str], table: Mapping[tuple[str, ...], str]) -> set[str]:
    left: list[str | None] = list(tokens)
    found = set()
    for wording, value in table.items():
        size = len(wording)
        for start in range(len(left) - size + 1 if size else 0):
            if tuple(left[start : start + size]) == wording:
                found.add(value)
                left[start : start + size] = [None] * size
    return found
