"""The ledger of a curriculum folder: its phases' results, in order."""

from __future__ import annotations

from pathlib import Path

from modalign.evaluation.ledger import Ledger, build_ledger
from modalign.evaluation.scores import RESULTS_FILE, read_results
from modalign.runs.record import read_record


def curriculum_ledger(folder: Path) -> Ledger:
    """The matrix of phases by modalities of the curriculum in `folder`; of a phase whose run or results are not there
    nothing is known, and the ledger says so."""
    entries = []
    for phase in read_record(folder).phases:
        run = folder / phase.run
        found = read_results(run) if (run / RESULTS_FILE).is_file() else None
        entries.append((Path(phase.run).name, tuple(phase.new), found))
    return build_ledger(entries)
