"""`modalign compare RUN RUN`: in which settings two runs differ, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from modalign.cli.parser import VerbParser
from modalign.cli.terminal import print_table, say
from modalign.evaluation.scores import RESULTS_FILE, Results, read_results
from modalign.runs.identity import differences
from modalign.runs.manifest import read_manifest

SUMMARY = "Put two runs side by side: the settings of their identities that differ, and the scores that both have."
HEADLINES = ("attribute_accuracy", "exact_match")


def run(arguments: Sequence[str]) -> int:
    """Print both tables."""
    parser = VerbParser("compare", SUMMARY, ["modalign compare runs/align-audio-1a2b3c4d runs/align-audio-5e6f7a8b"])
    parser.add_argument("first", metavar="RUN", type=Path)
    parser.add_argument("second", metavar="RUN", type=Path)
    options = parser.parse(arguments)
    first, second = read_manifest(options.first), read_manifest(options.second)
    changed = differences(first.spec, second.spec)
    say("the settings that make up the runs are equal" if not changed else f"{len(changed)} settings differ:")
    for line in changed:
        say(f"  {line}")
    results = [read_results(p) if (p / RESULTS_FILE).is_file() else None for p in (options.first, options.second)]
    missing = [m.name for m, found in zip((first, second), results, strict=True) if found is None]
    if missing:
        say(f"no results: {', '.join(missing)}")
    if results[0] is not None and results[1] is not None:
        _scores(results[0], results[1], options.first.resolve().name, options.second.resolve().name)
    return 0


def _scores(first: Results, second: Results, left: str, right: str) -> None:
    rows = []
    for score in first.scores:
        other = second.find(score.modality, score.task, score.split, score.metric)
        if score.metric in HEADLINES and other is not None:
            points = 100 * (other.value - score.value)
            apart = score.high < other.low or other.high < score.low
            row = [score.modality, score.task, score.split, f"{100 * score.value:.1f}", f"{100 * other.value:.1f}"]
            rows.append([*row, f"{points:+.1f}", "intervals apart" if apart else ""])
    print_table(("modality", "task", "split", left, right, "points", ""), rows, numbers=(3, 4, 5))
