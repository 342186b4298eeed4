"""The choices of a question and which of them is right, however a dataset writes that down."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Sequence
from typing import Any

from modalign.data.order import derive_seed
from modalign.data.sources.tables import Row, cell

_MOST = len(string.ascii_uppercase)


def choices_of(row: Row, options: str | Sequence[str], answer: str, said: Any) -> tuple[list[str], int]:
    """The choices and the place of the right one; raises ValueError where there is none.

    `options` is a column that holds a list, or the columns of one choice each (empty ones at the end are none). The
    right one is the column `answer` itself where that is among them, else what it says: a number from 0, a letter, or
    the choice's own words.
    """
    if isinstance(options, str):
        choices = [_text(choice) for choice in cell(row, options) or ()]
    else:
        choices = [_text(cell(row, column)) for column in options]
        while choices and not choices[-1]:
            choices.pop()
        if answer in options:
            return choices, list(options).index(answer)
    place = _place(said, choices)
    if place is None or not 0 <= place < min(len(choices), _MOST):
        raise ValueError("no right choice among its options")
    return choices, place


def lettered(choices: Sequence[str]) -> str:
    """The choices in one line: "A. red B. blue"."""
    return " ".join(f"{letter}. {choice}" for letter, choice in zip(string.ascii_uppercase, choices, strict=False))


def shuffled(choices: Sequence[str], right: int, *identity: str) -> tuple[list[str], int]:
    """The choices in an order that hangs on the question alone, and where the right one has gone."""
    order = sorted(range(len(choices)), key=lambda place: derive_seed(0, "options", *identity, choices[place], place))
    return [choices[place] for place in order], order.index(right)


def filled(question: str, values: Any) -> str:
    """A question whose places in angle brackets ("<Object>") are filled by values in their order."""
    try:
        values = json.loads(values) if isinstance(values, str) else list(values or ())
    except ValueError as error:
        raise ValueError("its values are no list") from error
    remaining = iter(values)
    return re.sub(r"<\w+>", lambda place: str(next(remaining, place[0])), question)


def _place(said: Any, choices: Sequence[str]) -> int | None:
    text = _text(said)
    if isinstance(said, int) or text.isdigit():
        return int(text)
    if len(text) == 1 and text in string.ascii_uppercase:
        return string.ascii_uppercase.index(text)
    return choices.index(text) if text in choices else None


def _text(value: Any) -> str:
    text = "" if value is None else " ".join(str(value).split())
    return "" if text.lower() == "nan" else text
