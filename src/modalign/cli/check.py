"""`modalign check CURRICULUM|RUN`: does a finished curriculum hold what it declares?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from modalign.cli.environment import prepare_environment
from modalign.cli.parser import VerbParser
from modalign.cli.terminal import print_table, say, working
from modalign.errors import ModalignError
from modalign.runs.manifest import FILE as MANIFEST
from modalign.runs.record import FILE as RECORD

SUMMARY = """Check a finished curriculum, or one run, against its declaration: every declared phase is there and ended;
each trained the parts it declares, with a gradient, froze all others to the bit, read what its mixture says, stands on
the parent whose digest it names, on the same data, and was measured on all its senses. Every byte of the checkpoints
is read. The exit code is 1 where something does not hold."""
STATES = {True: "holds", False: "FAULT", None: "unknown"}


def run(arguments: Sequence[str]) -> int:
    """Print every check; 0 where none fails."""
    examples = ["modalign check runs/curriculum-by_size-1a2b3c4d", "modalign check runs/align-audio-1a2b3c4d"]
    parser = VerbParser("check", SUMMARY, examples)
    parser.add_argument("folder", metavar="CURRICULUM|RUN", type=Path)
    parser.add_argument("--faults", action="store_true", help="print what does not hold alone")
    options = parser.parse(arguments)
    whole = (options.folder / RECORD).is_file()
    if not whole and not (options.folder / MANIFEST).is_file():
        raise ModalignError(
            f"{options.folder} holds neither a run ({MANIFEST}) nor a curriculum ({RECORD}): name such a folder"
        )
    prepare_environment()
    from modalign.stages.audit import audit_curriculum, audit_run
    from modalign.stages.notices import quiet_libraries

    quiet_libraries()
    with working(lambda: f"checking {options.folder.resolve().name}"):
        findings = list((audit_curriculum if whole else audit_run)(options.folder))
    shown = [f for f in findings if f.holds is not True or not options.faults]
    if shown:
        print_table(("run", "check", "", ""), [[f.where, f.check, STATES[f.holds], f.told] for f in shown])
    counts = Counter(f.holds for f in findings)
    unknown = f", {counts[None]} cannot be told" if counts[None] else ""
    say(f"{len(findings)} checks: {counts[True]} hold, {counts[False]} do not{unknown}")
    return 1 if counts[False] else 0
