"""How the report writes numbers: percent with interval, points, durations, counts, sizes."""

from __future__ import annotations

from modalign.evaluation.scores import Score

SHARES = {"attribute_accuracy", "exact_match"}
METRIC_NAMES = {
    "attribute_accuracy": "attribute accuracy",
    "exact_match": "exact match",
    "cider": "CIDEr",
    "bleu4": "BLEU-4",
    "rougeL": "ROUGE-L",
}
TASK_NAMES = {"caption": "captions", "answer": "answers", "pair": "questions over two sensors"}
SPLIT_NAMES = {"test": "test", "test_unseen": "unseen combinations", "val": "validation"}


def percent(value: float) -> str:
    """A share in percent with one decimal."""
    return f"{100 * value:.1f} %"


def points(change: float) -> str:
    """A difference of shares in percentage points, signed; a true minus sign."""
    return f"{100 * change:+.1f}".replace("-0.0", "0.0").replace("+0.0", "0.0").replace("-", "\u2212")


def score_value(score: Score) -> str:
    """A score as its metric is read: shares in percent, others as they are."""
    return percent(score.value) if score.metric in SHARES else f"{score.value:.3f}"


def score_interval(score: Score) -> str:
    """The score's 95 % interval, in the score's own unit."""
    if score.metric in SHARES:
        return f"{100 * score.low:.1f} to {100 * score.high:.1f}"
    return f"{score.low:.3f} to {score.high:.3f}"


def duration(seconds: float) -> str:
    """Seconds in words: 0.4 s, 35 s, 4 min 05 s, 2 h 10 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def count(number: int) -> str:
    """A whole number with thin separators."""
    return f"{number:,}"


def size(num_bytes: int) -> str:
    """A file's size in words."""
    amount = float(num_bytes)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def sentence(words: str) -> str:
    """The words with their first letter large, the others as they are."""
    return words[:1].upper() + words[1:]


def listing(names: list[str] | tuple[str, ...]) -> str:
    """Names as a sentence has them: a, b and c."""
    names = list(names)
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else "none"
