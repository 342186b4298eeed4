"""From a row of labels to a sample's words and its split, the same on every machine."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from typing import Any

from modalign.data.order import Permutation, derive_seed
from modalign.data.sources.tables import Row, column
from modalign.errors import ModalignError

DEFAULT_SPLITS: Mapping[str, float] = {"train": 0.8, "val": 0.1, "test": 0.1}


class Labels:
    """What to make of a row's columns.

    `caption` is a column, or a template with columns in braces ("a {colour} {shape}"); `question` and `answer` are the
    same and make a conversation of one turn. `words` maps a column's values to words, by position or by name;
    `attributes` are the columns that evaluation looks for in captions (default: those that the caption's template
    names); `variant` is a column that is kept as `subject`. `split` is a column that names the split; without one the
    rows are shared out at random by `seed` in the exact proportions of `splits`.
    """

    def __init__(
        self,
        caption: str | None = "caption",
        question: str | None = None,
        answer: str | None = None,
        words: Mapping[str, Sequence[str] | Mapping[Any, str]] | None = None,
        attributes: Sequence[str] | None = None,
        variant: str | None = None,
        split: str | None = None,
        splits: Mapping[str, float] = DEFAULT_SPLITS,
        seed: int = 0,
    ) -> None:
        if caption is None and (question is None or answer is None):
            raise ModalignError("labels need a caption, or a question and an answer")
        total = sum(splits.values())
        if any(share < 0 for share in splits.values()) or not 0.999 < total < 1.001:
            raise ModalignError(f"labels.splits must be shares that add up to 1, not {dict(splits)} ({total:g})")
        self.caption, self.question, self.answer = caption, question, answer
        self.words, self.variant, self.split = dict(words or {}), variant, split
        self.attributes = list(_fields(caption or "") if attributes is None else attributes)
        self.splits, self.seed = dict(splits), seed

    def record(self, row: Row, where: str) -> dict[str, Any]:
        """The sample's words; raises ValueError where they are empty, ModalignError where a column is not there."""
        record: dict[str, Any] = {}
        if self.caption is not None:
            record["caption"] = self._fill(self.caption, row, where, "caption")
        if self.question is not None and self.answer is not None:
            question = self._fill(self.question, row, where, "question")
            record["conversation"] = [{"question": question, "answer": self._fill(self.answer, row, where, "answer")}]
        record["attributes"] = {name: self._word(row, name, where) for name in self.attributes}
        if self.variant is not None:
            record["subject"] = str(column(row, self.variant, where))
        return record

    def split_of(self, row: Row, number: int, num_rows: int, where: str) -> str:
        """The split of row `number` of num_rows; rows that are given one number fall into one split."""
        if self.split is not None:
            return str(column(row, self.split, where))
        place, end = Permutation(num_rows, derive_seed(self.seed, "splits"))(number), 0.0
        for name, share in self.splits.items():
            end += share
            if place < round(end * num_rows):
                return name
        return next(reversed(self.splits))

    def _fill(self, template: str, row: Row, where: str, what: str) -> str:
        names = _fields(template)
        if names:
            text = template.format(**{name: self._word(row, name, where) for name in names})
        else:
            value = column(row, template, where)
            text = "" if value is None else str(value)
        if not text.strip():
            raise ValueError(f"empty {what}")
        return text.strip()

    def _word(self, row: Row, name: str, where: str) -> str:
        value, words = column(row, name, where), self.words.get(name)
        if value is None or value == "":
            raise ValueError(f"empty {name}")
        if words is None:
            return str(value)
        try:
            return words[value] if isinstance(words, Mapping) else words[int(value)]
        except (KeyError, IndexError, ValueError) as error:
            raise ModalignError(f"{where}: labels.words.{name} has no word for {value!r}") from error


def _fields(template: str) -> list[str]:
    """The columns that a template names."""
    try:
        return list(dict.fromkeys(name for _, name, _, _ in string.Formatter().parse(template) if name))
    except ValueError as error:
        raise ModalignError(f"'{template}' is no template: {error}") from error


def make_labels(labels: Labels | Mapping[str, Any] | None) -> Labels:
    """Labels from a recipe's mapping; raises ModalignError that lists the keys for an unknown one."""
    if isinstance(labels, Labels):
        return labels
    try:
        return Labels(**dict(labels or {}))
    except TypeError as error:
        known = "caption, question, answer, words, attributes, variant, split, splits, seed"
        raise ModalignError(f"labels: {str(error).removeprefix('Labels.__init__() ')}; known: {known}") from error
