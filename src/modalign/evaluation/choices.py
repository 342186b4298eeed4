"""What a free answer chooses: an option's letter, a class of a list, yes or no; each rule small enough to check."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence

from modalign.errors import ModalignError, unknown_name
from modalign.evaluation.words import normalise, words

_LETTER = re.compile(r"\(?([A-Z])\)?\s*(?:[.:,)]|$)")
_TOLD = re.compile(r"\b(?i:answer|option|choice)(?:\s+is)?:?\s*\(?([A-Z])\)?(?![A-Za-z'])")


def chosen_letter(answer: str, options: Sequence[str]) -> int | None:
    """Which option an answer chooses, from 0: by a letter in front, by "answer is X", by its words; None where by none.

    "A dog" is no letter: one counts in front of the end, of . : , ) or of the words of its own option alone.
    """
    text = answer.strip()
    for pattern in (_LETTER.match, _TOLD.search):
        if (found := pattern(text)) and (place := string.ascii_uppercase.index(found[1])) < len(options):
            return place
    said = normalise(text)
    meant = [
        place
        for place, option in enumerate(options)
        if said in (normalise(option), normalise(f"{string.ascii_uppercase[place]} {option}"))
    ]
    return meant[0] if len(meant) == 1 and said else None


class ClassList:
    """Classes by name, each with the wordings that mean it (its own name where none is given); `_` reads as a space."""

    def __init__(self, classes: Sequence[str] | Mapping[str, Sequence[str]]) -> None:
        wordings = classes if isinstance(classes, Mapping) else {name: [name] for name in classes}
        self.names = list(wordings)
        self._table = {_key(text): name for name, texts in wordings.items() for text in (name, *texts)}
        self._longest = max((len(wording) for wording in self._table), default=0)
        if not self.names:
            raise ModalignError("a class list is empty: classification needs at least one class")

    def of(self, label: str) -> str:
        """The class that an annotation's label means; raises ModalignError that names the nearest for none."""
        if (name := self._table.get(_key(label))) is None:
            raise unknown_name("class", label, self.names)
        return name

    def named(self, answer: str) -> set[str]:
        """The classes that an answer names, word by word, the longest wordings first ("living room" is not "room")."""
        left: list[str | None] = [*words(answer.replace("_", " "))]
        found = set()
        for size in range(min(self._longest, len(left)), 0, -1):
            for start in range(len(left) - size + 1):
                part = tuple(left[start : start + size])
                if None not in part and part in self._table:
                    found.add(self._table[part])  # type: ignore[index]
                    left[start : start + size] = [None] * size
        return found

    def is_right(self, answer: str, label: str) -> bool:
        """Whether the answer names the label's class and no other one."""
        return self.named(answer) == {self.of(label)}


def yes_or_no(answer: str) -> str | None:
    """Yes or no by MME's rule: looked for in the first four characters; None where there is neither."""
    start = answer.strip().lower()[:4]
    return "yes" if "yes" in start else "no" if "no" in start else None


def contains(answer: str, reference: str) -> bool:
    """Whether one of the two texts is in the other, in lower case: the rule of OneLLM's released MSVD-QA script."""
    said, meant = answer.strip().lower(), reference.strip().lower()
    return bool(said) and (said in meant or meant in said)


def _key(text: str) -> tuple[str, ...]:
    return tuple(words(text.replace("_", " ")))
