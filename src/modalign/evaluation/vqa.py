"""VQA accuracy by the rule of its authors (visualqa.org): ten annotators, their agreement, their normalisation."""

from __future__ import annotations

import re
from collections.abc import Sequence

_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBERS = {"none": "0"} | {word: str(number) for number, word in enumerate(_WORDS)}
_ARTICLES = frozenset({"a", "an", "the"})
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
_MOST_PERIODS = 32  # the official script hands a flag to re.sub where the count belongs; its value is 32

# Words that the official table writes with their apostrophes. Its forms of "I" are missing here: they are written with
# a capital and words are looked up in lower case, so that they never act there either.
_SINGLE = (
    "ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd how'll how's "
    "isn't it'd it'll ma'am mightn't might've mustn't must've needn't not've o'clock oughtn't shan't should've "
    "shouldn't somebody'll somebody's someone'd someone'll someone's something'd something'll that's there'd there're "
    "there's they'd they'll they're they've 'twas wasn't we've weren't what'll what're what's what've when's where'd "
    "where's where've who'd who'll who's who've why'll why're why's won't would've wouldn't y'all you'd you'll you're "
    "you've"
)
_DOUBLE = (
    "couldn't've hadn't've he'd've it'd've mightn't've she'd've shouldn't've somebody'd've someone'd've "
    "something'd've there'd've they'd've we'd've who'd've wouldn't've you'd've y'all'll"
)
_IRREGULAR = {
    "ow's'at": "'ow's'at", "'ows'at": "'ow's'at", "'ow'sat": "'ow's'at", "somebody'd": "somebodyd",
    "yall'd've": "y'all'd've", "y'alld've": "y'all'd've", "y'all'dve": "y'all'd've",
}  # fmt: skip


def _contractions() -> dict[str, str]:
    """Every spelling that lacks an apostrophe: without its only one, or without either of two."""
    table = {word.replace("'", ""): word for word in _SINGLE.split()} | _IRREGULAR
    for word in _DOUBLE.split():
        first, second, third = word.split("'")
        table[f"{first}{second}'{third}"] = table[f"{first}'{second}{third}"] = word
    return table


_CONTRACTIONS = _contractions()


def vqa_normalise(answer: str) -> str:
    """An answer as the official script compares it: lower case, digits for number words, no articles, punctuation cut.

    Punctuation beside a space, and all of it where a comma stands between digits, is dropped; other punctuation becomes
    a space (sic).
    """
    answer = _one_line(answer)
    drop_all = _COMMA_IN_NUMBER.search(answer) is not None
    text = answer
    for mark in _PUNCTUATION:
        beside_space = f"{mark} " in answer or f" {mark}" in answer
        text = text.replace(mark, "" if beside_space or drop_all else " ")
    text = _PERIOD.sub("", text, count=_MOST_PERIODS)
    words = [_NUMBERS.get(word, word) for word in text.lower().split()]
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def vqa_accuracy(answer: str, annotators: Sequence[str]) -> float:
    """The official accuracy, 0..1: mean over annotators of min(1, how many of the others said the same / 3).

    Both sides are normalised where the annotators differ, and compared as written where all agree (sic), so that an
    answer is best given to it normalised, as converters for the official script do. Antol et al. 2015, eq. 1.
    """
    said, answer = [_one_line(one) for one in annotators], _one_line(answer)
    if not said:
        return 0.0
    if len(set(said)) > 1:
        said, answer = [vqa_normalise(one) for one in said], vqa_normalise(answer)
    matches = [one == answer for one in said]
    return sum(min(1.0, (sum(matches) - match) / 3) for match in matches) / len(said)


def _one_line(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()
