"""The split guard: what was published for evaluation does not become a training split."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from modalign.errors import ModalignError

TRAINING = frozenset({"train"})
"""The splits that training reads."""

_EVALUATION = frozenset(
    {"dev", "eval", "evaluation", "minival", "test", "testa", "testb", "testdev", "val", "valid", "validate",
     "validation"}
)  # fmt: skip
_WORD = re.compile(r"[a-z]+")


def evaluation_word(name: str) -> str | None:
    """The word by which a published file or split says that it is for evaluation, such as the val of val2014."""
    return next((word for word in _WORD.findall(name.lower()) if word in _EVALUATION), None)


def check_published_split(split: str, file: str, where: Mapping[str, Any], place: str) -> None:
    """Raise ModalignError where a training split would be made of an evaluation split.

    The values that rows are picked by (`where`) tell, and the words of the file's name where no split column does.
    """
    if split not in TRAINING:
        return
    names = [str(one) for value in where.values() for one in (value if isinstance(value, list | tuple) else [value])]
    if not any("split" in column.lower() for column in where):
        names.append(file)
    for name in names:
        if (word := evaluation_word(name)) is not None:
            raise ModalignError(
                f"{place} reads '{name}', which is '{word}': an evaluation split cannot enter training; "
                f"name it as a split of its own, such as make.rows.val"
            )
