"""The words of a text as the scorers see them: one normalisation and one tokenisation for every text metric."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence

from modalign.errors import ModalignError

_WORD = re.compile(r"(?<!\w)-?\d+(?:[.,]\d+)*(?!\w)|[^\W_]+(?:['\u2019][^\W_]+)*")

SIMPLE_NOTE = "simple tokenisation (lower case, words only) in place of COCO's PTB tokeniser, which needs Java"


def words(text: str) -> list[str]:
    """The text's words in lower case; punctuation and space only separate ("Two red-ish cubes." -> two red ish cubes).

    Numbers stay whole, with their sign and decimals ("-0.5"); an apostrophe inside a word belongs to it.
    """
    return _WORD.findall(text.lower())


def normalise(text: str) -> str:
    """The text in lower case without punctuation, words joined by one space: what exact match compares."""
    return " ".join(words(text))


def tokenise(texts: Sequence[str], tokenisation: str = "simple") -> list[str]:
    """Each text as space-separated tokens, for pycocoevalcap's scorers.

    `simple` (the default, the same everywhere) keeps the words of `words`. `ptb` runs COCO's own Stanford tokeniser,
    for numbers that are to stand beside published ones; it starts Java and raises ModalignError where there is none.
    """
    if tokenisation == "simple":
        return [normalise(text) for text in texts]
    if tokenisation != "ptb":
        raise ModalignError(f"tokenisation '{tokenisation}' is unknown: use 'simple' or 'ptb'")
    if shutil.which("java") is None:
        raise ModalignError("tokenisation 'ptb' needs Java and no 'java' is on the path: install one or use 'simple'")
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    numbered = {i: [{"caption": text}] for i, text in enumerate(texts)}
    tokens = PTBTokenizer().tokenize(numbered)
    return [tokens[i][0] for i in range(len(texts))]
