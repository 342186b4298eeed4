"""`modalign ledger CURRICULUM`: what each phase did to every modality, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from modalign.cli.parser import VerbParser
from modalign.cli.terminal import console

SUMMARY = "Print a curriculum's matrix of phases by modalities: scores, and the change since each modality's own phase."


def run(arguments: Sequence[str]) -> int:
    """Print the table."""
    parser = VerbParser("ledger", SUMMARY, ["modalign ledger runs/curriculum-by_size-1a2b3c4d"])
    parser.add_argument("folder", metavar="CURRICULUM", type=Path)
    options = parser.parse(arguments)
    from modalign.evaluation.chain import curriculum_ledger
    from modalign.evaluation.ledger_table import ledger_table

    console().print(ledger_table(curriculum_ledger(options.folder)))
    return 0
