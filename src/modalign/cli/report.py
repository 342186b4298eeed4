"""`modalign report RUN|CURRICULUM`: write report.html again from what lies in the folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from modalign.cli.parser import VerbParser
from modalign.cli.terminal import say
from modalign.errors import ModalignError
from modalign.runs.manifest import FILE as MANIFEST
from modalign.runs.record import FILE as RECORD

SUMMARY = "Write the report of a run, or of a curriculum's folder, again and print its path."


def run(arguments: Sequence[str]) -> int:
    """Write the report."""
    examples = ["modalign report runs/align-audio-1a2b3c4d", "modalign report runs/curriculum-by_size-1a2b3c4d"]
    parser = VerbParser("report", SUMMARY, examples)
    parser.add_argument("folder", metavar="RUN|CURRICULUM", type=Path)
    say(str(write_report(parser.parse(arguments).folder)))
    return 0


def write_report(folder: Path) -> Path:
    """Write the report that fits what the folder holds; returns its path."""
    if (folder / RECORD).is_file():
        from modalign.evaluation.report.curriculum_report import write_curriculum_report

        return write_curriculum_report(folder)
    if (folder / MANIFEST).is_file():
        from modalign.evaluation.report.run_report import write_run_report

        return write_run_report(folder)
    raise ModalignError(f"{folder} holds neither a run ({MANIFEST}) nor a curriculum ({RECORD}): name such a folder")
