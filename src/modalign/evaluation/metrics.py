"""Scores of generated texts against references: exact match of answers, and the caption metrics of COCO."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from modalign.errors import ModalignError
from modalign.evaluation.intervals import bootstrap, bootstrap_mean, wilson
from modalign.evaluation.scores import Detail, Score
from modalign.evaluation.words import SIMPLE_NOTE, normalise, tokenise

References = Sequence[str | Sequence[str]]
"""One reference, or several that are equally right, for each item."""


def is_exact_match(generated: str, references: str | Sequence[str]) -> bool:
    """Whether the texts are equal in lower case without punctuation and spare space (any one of several references)."""
    return normalise(generated) in {normalise(reference) for reference in _as_list(references)}


def exact_match(
    generated: Sequence[str],
    references: References,
    modality: str,
    split: str,
    task: str = "answer",
    groups: Sequence[str] | None = None,
) -> Score:
    """The share of answers that equal a reference (`is_exact_match`), with Wilson's interval.

    Chance is the share that always giving the most frequent reference would get: within each kind of question where
    `groups` names the kinds (which the details then list), else over all items.
    """
    _same_length(generated, references, modality)
    kinds = list(groups) if groups is not None else [""] * len(generated)
    hits = [is_exact_match(text, refs) for text, refs in zip(generated, references, strict=True)]
    details = {}
    for kind in sorted(set(kinds)):
        members = [i for i, name in enumerate(kinds) if name == kind]
        right = sum(hits[i] for i in members)
        first = Counter(normalise(_as_list(references[i])[0]) for i in members)
        low, high = wilson(right, len(members))
        details[kind] = Detail(right / len(members), max(first.values()) / len(members), len(members), low, high)
    total = len(hits)
    low, high = wilson(sum(hits), total)
    chance = sum((part.chance or 0.0) * part.n for part in details.values()) / total
    shown = details if groups is not None else {}
    kept = " ".join(f"{int(hit)}/1" for hit in hits)
    return Score(modality, task, split, "exact_match", sum(hits) / total, low, high, chance, total, shown, hits=kept)


def caption_scores(
    generated: Sequence[str],
    references: References,
    modality: str,
    split: str,
    task: str = "caption",
    tokenisation: str = "simple",
) -> list[Score]:
    """CIDEr (0..10), BLEU-4 and ROUGE-L (0..1) by pycocoevalcap's scorers, with bootstrap intervals over items.

    CIDEr's document frequencies are those of all items, held fixed in the bootstrap; BLEU-4 is the corpus' and its
    counts are what is resampled. Scores with the simple tokenisation are marked by a note.
    """
    _same_length(generated, references, modality)
    candidates = tokenise(generated, tokenisation)
    lists = [_as_list(refs) for refs in references]
    flat = iter(tokenise([text for refs in lists for text in refs], tokenisation))
    truths = {i: [next(flat) for _ in refs] for i, refs in enumerate(lists)}
    guesses = {i: [text] for i, text in enumerate(candidates)}
    note = SIMPLE_NOTE if tokenisation == "simple" else None
    found = {"cider": _cider(truths, guesses), "bleu4": _bleu4(truths, guesses), "rougeL": _rouge_l(truths, guesses)}
    return [
        Score(modality, task, split, metric, value, low, high, None, len(candidates), {}, note)
        for metric, (value, low, high) in found.items()
    ]


def _cider(truths: dict[int, list[str]], guesses: dict[int, list[str]]) -> tuple[float, float, float]:
    from pycocoevalcap.cider.cider import Cider

    if not any(text for refs in truths.values() for text in refs):
        raise ModalignError("every reference caption is empty: CIDEr has nothing to compare with")
    mean, items = Cider().compute_score(truths, guesses)
    return float(mean), *bootstrap_mean(items)


def _rouge_l(truths: dict[int, list[str]], guesses: dict[int, list[str]]) -> tuple[float, float, float]:
    from pycocoevalcap.rouge.rouge import Rouge

    mean, items = Rouge().compute_score(truths, guesses)
    return float(mean), *bootstrap_mean(items, share=True)


def _bleu4(truths: dict[int, list[str]], guesses: dict[int, list[str]]) -> tuple[float, float, float]:
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer

    scorer = BleuScorer(n=4)
    for i, refs in truths.items():
        scorer += (guesses[i][0], refs)
    value = scorer.compute_score(option="closest")[0][3]
    counts = np.array([_bleu_counts(scorer, item) for item in scorer.ctest], dtype=np.float64)
    low, high = bootstrap(counts, _corpus_bleu4)
    return float(value), low, high


def _bleu_counts(scorer: Any, item: dict[str, Any]) -> list[float]:
    reference_length = scorer._single_reflen(item["reflen"], "closest", item["testlen"])
    return [*item["correct"], *item["guess"], item["testlen"], reference_length]


def _corpus_bleu4(totals: np.ndarray) -> np.ndarray:
    """BLEU-4 of rows of summed counts, with the scorer's own small constants so that the whole set gives its value."""
    correct, guess, length, reference_length = totals[:, :4], totals[:, 4:8], totals[:, 8], totals[:, 9]
    score = np.prod((correct + 1e-15) / (guess + 1e-9), axis=1) ** 0.25
    ratio = (length + 1e-15) / (reference_length + 1e-9)
    return score * np.exp(np.minimum(0.0, 1 - 1 / ratio))


def _as_list(references: str | Sequence[str]) -> list[str]:
    return [references] if isinstance(references, str) else list(references)


def _same_length(generated: Sequence[str], references: References, modality: str) -> None:
    if len(generated) != len(references) or not len(generated):
        raise ModalignError(
            f"{len(generated)} generated texts for {len(references)} references ({modality}): "
            "both must be given and of one length"
        )
