"""What a run or a curriculum shows, first in numbers and then in plain words."""

from __future__ import annotations

from collections.abc import Sequence

from modalign.evaluation.ledger import Ledger
from modalign.evaluation.ledger_table import NOTABLE_FALL, unmeasured_words
from modalign.evaluation.report.findings import headline_scores
from modalign.evaluation.report.page import Tile
from modalign.evaluation.report.phrases import (
    METRIC_NAMES,
    TASK_NAMES,
    count,
    duration,
    listing,
    percent,
    points,
    score_interval,
    sentence,
)
from modalign.evaluation.report.source import RunRecord
from modalign.evaluation.scores import Score
from modalign.runs.manifest import Manifest

_FEW = 2
_AT_RANDOM = "map_at_random"  # the rule of a start from captions that could not be fitted


def score_tiles(scores: Sequence[Score], wanted: Sequence[str]) -> list[Tile]:
    """A tile for each of a few modalities and each task, or the tasks' means where there are more."""
    tiles = []
    for task in dict.fromkeys(score.task for score in scores):
        found = _wanted(scores, task, wanted)
        if len(found) <= _FEW:
            tiles += [Tile(f"{s.modality} {_task(task)}", percent(s.value), _beside(s)) for s in found]
        else:
            mean, worst = sum(s.value for s in found) / len(found), min(found, key=lambda s: s.value)
            note = f"mean of {len(found)} {_asked_of(task)}; lowest: {worst.modality}, {percent(worst.value)}"
            tiles.append(Tile(_task(task), percent(mean), note))
    return tiles


def ledger_tiles(ledger: Ledger | None) -> list[Tile]:
    """Worst forgetting and the plain-text loss, where there was a phase before."""
    if ledger is None or len(ledger.phases) < 2:
        return []
    tiles = []
    worst = ledger.worst_forgetting()
    if worst is not None:
        tone = "bad" if worst.change < -NOTABLE_FALL else "good"
        label = "largest fall" if worst.change < 0 else "least gain"
        tiles.append(Tile(f"{label} since own phase", f"{points(worst.change)}", f"points, {worst.modality}", tone))
    change = ledger.text_loss_change(len(ledger.phases) - 1)
    if change is not None:
        words = "unchanged" if change == 0 else f"{points(change)} %"
        tone = "bad" if change > NOTABLE_FALL else "good"
        tiles.append(Tile("plain-text loss", words, "of the language model", tone))
    return tiles


def work_tiles(parameters: str, note: str, seconds: float) -> list[Tile]:
    """How much trained, and how long it took."""
    return [Tile("parameters trained", parameters, note), *([Tile("time", duration(seconds))] if seconds else [])]


def score_sentences(scores: Sequence[Score], wanted: Sequence[str]) -> list[str]:
    """One sentence a task on what was scored, with interval, chance and the unseen combinations beside it."""
    lines = []
    for task in dict.fromkeys(score.task for score in scores):
        found = _wanted(scores, task, wanted)
        if len(found) > _FEW:
            low, high = min(found, key=lambda s: s.value), max(found, key=lambda s: s.value)
            chance = [s.chance for s in found if s.chance is not None]
            beside = f"; chance is {percent(sum(chance) / len(chance))} on average" if chance else ""
            ends = f"between {percent(low.value)} ({low.modality}) and {percent(high.value)} ({high.modality})"
            what = f"{sentence(_task(task))}, over {len(found)} {_asked_of(task)}: {METRIC_NAMES[low.metric]}"
            lines.append(f"{what} {ends} on test items{beside}.")
        else:
            lines += [_score_sentence(s, [other for other in scores if other.split == "test_unseen"]) for s in found]
    return lines


def forgetting_sentences(ledger: Ledger | None) -> list[str]:
    """What the ledger says of earlier modalities and of the language model."""
    if ledger is None or len(ledger.phases) < 2:
        return []
    lines = []
    worst = ledger.worst_forgetting()
    if worst is not None and worst.change < 0:
        what = "Something was forgotten" if worst.change < -NOTABLE_FALL else "Nothing notable was forgotten"
        fall = points(-worst.change).lstrip("+")
        where = f"{worst.modality}, after {worst.phase}"
        lines.append(f"{what}: the largest fall of an earlier modality is {fall} points ({where}).")
    elif worst is not None:
        lines.append("Nothing was forgotten: no earlier modality is below its own phase's score.")
    if ledger.other_items:
        lines.append(
            "Not all phases were measured on the same items (evaluation.num_items): changes between them are rough."
        )
    if ledger.unmeasured:
        lines.append(f"{sentence(unmeasured_words(ledger))}.")
    change = ledger.text_loss_change(len(ledger.phases) - 1)
    if change == 0:
        lines.append("The language model's loss on plain text is unchanged to the last digit.")
    elif change is not None:
        lines.append(f"The language model's loss on plain text changed by {points(change)} %.")
    return lines


def work_sentence(run: RunRecord) -> str:
    """What the run did, with how much and in what time."""
    manifest = run.manifest
    total, training = parameters_of(manifest)
    seen = [name for name in manifest.modalities.get("seen", []) if name not in run.new]
    what = f"Stage {manifest.stage}"
    if run.new:
        what += f" added {listing(run.new)}" if len(run.new) <= 4 else f" on {len(run.new)} modalities"
    if seen:
        what += f" to {listing(seen)}" if run.new else f" on {listing(seen)}"
    line = f"{what}: {count(manifest.steps)} optimizer steps over {count(sum(manifest.consumed.values()))} samples"
    if total:
        line += f", training {count(training)} of {count(total)} parameters ({percent(training / total)})"
    seconds = sum(manifest.seconds.values())
    return line + (f", in {duration(seconds)}." if seconds else ".")


def proof_sentences(manifest: Manifest) -> list[str]:
    """What was proved of the parts, and every exception by name; the bad samples, counted."""
    frozen = [part for part in manifest.parts if not part["trains"]]
    training = [part for part in manifest.parts if part["trains"]]
    changed = [part["name"] for part in frozen if part.get("unchanged") is False]
    idle = [part["name"] for part in training if part.get("gradient") not in ("ok", None)]
    lines = []
    if changed:
        lines.append(f"Frozen but CHANGED: {listing(changed)}.")
    elif frozen and all(part.get("unchanged") for part in frozen):
        lines.append(f"Frozen parts ({len(frozen)}): all proved to be the same to the bit as before.")
    if idle:
        lines.append(f"Trained without a usable gradient: {listing(idle)}.")
    elif training and all(part.get("gradient") == "ok" for part in training):
        lines.append(f"Training parts ({len(training)}): all proved to have had a finite gradient that is not zero.")
    bad = sum(hole.get("count", 0) for hole in manifest.holes.values())
    if bad:
        named = sum(len(hole.get("examples", ())) for hole in manifest.holes.values())
        lines.append(
            f"{count(bad)} of the samples read could not be used; the section on data names {count(named)} that differ."
        )
    return lines


def warning_sentences(manifest: Manifest) -> list[str]:
    """What the run warned of that may explain its scores."""
    learns = any(part["trains"] and part["name"].split(".")[0] == "llm" for part in manifest.parts)
    unspeakable = () if learns else manifest.extra.get("unspeakable", ())
    lines = [
        f"The language model may not be able to say the captions of {name}: before training its own loss on them was "
        f"{loss:.2f} nats a token, against {known:.2f} on text that it knows."
        for name, loss, known in unspeakable
    ]
    skipped = manifest.extra.get("skipped_steps", {}).get("count", 0)
    if skipped:
        lines.append(
            f"{count(skipped)} of {count(manifest.steps)} optimizer steps were skipped, since their loss or gradient "
            f"was not finite: they changed nothing."
        )
    return lines + [
        f"{sentence(start['target'])} began at random, not from its captions: {start['source']}."
        for start in manifest.start_values
        if start["rule"] == _AT_RANDOM
    ]


def parameters_of(manifest: Manifest) -> tuple[int, int]:
    """All parameters, and those that trained."""
    total = sum(part["parameters"] for part in manifest.parts)
    return total, sum(part["parameters"] for part in manifest.parts if part["trains"])


def _wanted(scores: Sequence[Score], task: str, wanted: Sequence[str]) -> list[Score]:
    """A task's headline scores on test items: those of the wanted modalities, or all where none of them has one."""
    found = [score for score in headline_scores(scores, task) if score.split == "test"]
    return [score for score in found if score.modality in wanted] or found


def _score_sentence(score: Score, unseen: Sequence[Score]) -> str:
    line = f"{sentence(score.modality)} {_task(score.task)}: {METRIC_NAMES[score.metric]} {percent(score.value)} "
    line += f"(95 % interval {score_interval(score)}) on {count(score.n)} test items"
    line += f"; chance is {percent(score.chance)}" if score.chance is not None else ""
    key = (score.modality, score.task, score.metric)
    other = next((s for s in unseen if (s.modality, s.task, s.metric) == key), None)
    return line + (f"; {percent(other.value)} on combinations never seen in training." if other else ".")


def _asked_of(task: str) -> str:
    return "pairs" if task == "pair" else "modalities"


def _task(task: str) -> str:
    return TASK_NAMES.get(task, task)


def _beside(score: Score) -> str:
    chance = f"; chance {percent(score.chance)}" if score.chance is not None else ""
    return f"{score_interval(score)}{chance}"
