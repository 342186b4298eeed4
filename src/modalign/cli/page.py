"""`modalign page RUN RUN …`: one HTML page over any set of run folders, to be opened or sent as it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from modalign.cli.parser import VerbParser
from modalign.cli.terminal import say

SUMMARY = (
    "Put any number of runs on one HTML page: scores with intervals, losses by modality, ledgers, routers, what "
    "trained, the settings that differ, and what each says of the same samples."
)


def run(arguments: Sequence[str]) -> int:
    """Write the page and print its path."""
    parser = VerbParser(
        "page", SUMMARY, ["modalign page runs/align-audio-*", "modalign page --to replay.html runs/curriculum-*"]
    )
    parser.add_argument("folders", metavar="RUN|CURRICULUM", type=Path, nargs="+")
    parser.add_argument("--to", metavar="FILE", type=Path, default=Path("comparison.html"), help="comparison.html")
    parser.add_argument("--title", default="", help="the page's heading")
    options = parser.parse(arguments)
    from modalign.evaluation.report.comparison import write_comparison

    say(str(write_comparison(options.folders, options.to, options.title)))
    return 0
