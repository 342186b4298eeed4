"""A study's table as a page shows it: one row an arm, the paired difference beside its interval, and what it cost."""

from __future__ import annotations

from pathlib import Path

from modalign.evaluation.paired import Estimate
from modalign.evaluation.study_result import ArmResult, StudyResult
from modalign.runs.files import write_atomic

START, END = "<!-- result -->", "<!-- /result -->"


def study_table(result: StudyResult) -> str:
    """The table in Markdown, with what has to be known to read it."""
    labels = list(dict.fromkeys(label for arm in result.arms for label in arm.scores))
    forgets = any(arm.changes for arm in result.arms)
    apart = any(arm.expert_distance is not None for arm in result.arms)
    spread = len({arm.text_loss for arm in result.arms}) > 1
    head = ["arm", *labels, *(["mean"] if len(labels) > 1 else []), "difference (95 %)"]
    head += [*(["worst change since own phase"] if forgets else []), *(["experts apart"] if apart else [])]
    head += [*(["text loss"] if spread else []), "steps", "samples", "seeds"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for arm in result.arms:
        cells = [arm.name, *(_share(arm.scores.get(label)) for label in labels)]
        cells += [_share(arm.mean)] if len(labels) > 1 else []
        cells.append("baseline" if arm.name == result.baseline else _difference(arm.difference))
        cells += [_worst(arm)] if forgets else []
        cells += ["" if arm.expert_distance is None else f"{arm.expert_distance:.3f}"] if apart else []
        cells += ["" if arm.text_loss is None else f"{arm.text_loss:.3f}"] if spread else []
        lines.append("| " + " | ".join([*cells, f"{arm.steps:,}", f"{arm.samples:,}", str(len(arm.seeds))]) + " |")
    return "\n".join([*lines, "", *_notes(result, labels)]) + "\n"


def fill_block(page: Path, table: str) -> bool:
    """Put the table between the marks of a page, where it has them; whether it has."""
    if not page.is_file():
        return False
    text = page.read_text(encoding="utf-8")
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        return False
    write_atomic(page, f"{before}{START}\n{table.rstrip()}\n{END}{after}".encode())
    return True


def _notes(result: StudyResult, labels: list[str]) -> list[str]:
    base = next(arm for arm in result.arms if arm.name == result.baseline)
    chance = ", ".join(f"{label} {100 * base.chance[label]:.0f}" for label in labels if label in base.chance)
    items = sorted(set(result.items.values()))
    number = f"{items[0]}" if len(items) == 1 else f"{items[0]} to {items[-1]}"
    notes = [
        f"Percent, mean over seeds; {number} items a score; chance: {chance or 'not known'}. The difference to "
        f"*{result.baseline}* is paired by item and seed, its interval a bootstrap over both; with few seeds take one "
        f"that barely leaves zero as undecided. Steps and samples are those of one seed."
    ]
    for arm in result.arms:
        if len(labels) > 1 and list(arm.scores) != labels:
            notes[0] += f" The mean of *{arm.name}* is over {', '.join(arm.scores)} alone."
    if settings := result.extra.get("settings"):
        notes += ["", f"All arms with {' '.join(f'`{word}`' for word in settings)}."]
    if result.missing:
        notes += ["", f"Not finished: {'; '.join(result.missing)}."]
    return notes


def _share(found: Estimate | None) -> str:
    return "" if found is None else f"{100 * found.value:.1f}"


def _difference(found: Estimate | None) -> str:
    if found is None:
        return "no shared seed or score"
    return f"{_points(found.value)} ({_points(found.low)} to {_points(found.high)})"


def _worst(arm: ArmResult) -> str:
    worst = arm.worst_change
    return "" if worst is None else f"{_points(worst[1])} ({worst[0]})"


def _points(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "\N{MINUS SIGN}")
