"""`modalign verify RECIPE|FOLDER`: are the shards still what their manifest says?"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from modalign.cli.decode_check import Changes, decoding_check
from modalign.cli.parser import VerbParser, read_settings
from modalign.cli.terminal import count, print_table, say, working
from modalign.config.recipes import RecipeBook
from modalign.data.manifest import MANIFEST_NAME
from modalign.data.recipes import make_hint
from modalign.data.remote import RemotePath
from modalign.data.verify import Check, Report, verify_folder
from modalign.errors import ModalignError

SUMMARY = """Read every byte of a recipe's shards (or of one folder of shards) and compare it with the manifest.
Readable and bad samples always add up to the manifest's count; damage is named and the exit code is not zero."""
SHOWN = 20


def run(arguments: Sequence[str]) -> int:
    """Verify every split and name what is damaged."""
    examples = ["modalign verify digits", "modalign verify data/digits/train", "modalign verify digits --decode"]
    parser = VerbParser("verify", SUMMARY, examples)
    parser.add_argument("what", metavar="RECIPE|FOLDER")
    parser.add_argument("--decode", action="store_true", help="decode every medium of a recipe too")
    parser.add_settings()
    options = parser.parse(arguments)
    changes = Changes()
    folders, check, hint = _targets(options, changes)
    reports = []
    for folder in folders:
        with working(lambda folder=folder: f"reading {folder}"):  # type: ignore[misc]
            reports.append(verify_folder(folder, check, hint))
    rows = [[str(r.folder), count(r.samples), count(r.readable), count(len(r.bad))] for r in reports]
    print_table(("split", "samples", "readable", "bad"), rows, numbers=(1, 2, 3))
    for report in reports:
        _name_damage(report)
    changes.tell()
    if damaged := [report for report in reports if not report.ok]:
        bad = sum(len(report.bad) for report in damaged)
        where = ", ".join(str(report.folder) for report in damaged)
        raise ModalignError(
            f"damage in {where}: {count(bad)} samples cannot be read (all of it is named above): mend or take them "
            f"out where the shards are made from, remove the folder and run `modalign shards` again; training counts "
            f"and leaves out a share of them up to data.max_bad_share"
        )
    say("whole")
    return 0


def _targets(options: argparse.Namespace, changes: Changes) -> tuple[list[Path], Check | None, str]:
    """The splits to read, how to check a sample, and what to do where they are missing.

    A word that is both a recipe and a folder is the recipe; the folder is then given as ./name.
    """
    settings, _ = read_settings(options)
    book = RecipeBook(settings)
    folder = Path(options.what)
    if folder.is_dir() and options.what not in book.paths:
        if options.decode:
            raise ModalignError(f"--decode needs a recipe, which says what decodes as what: {folder} is a folder")
        return splits_of(folder), None, "name a folder of shards or the folder that holds its splits"
    if folder.name != options.what:
        raise ModalignError(f"no folder at {folder}: name a folder of shards, or a recipe ({', '.join(book.paths)})")
    recipe, place = book.get(options.what), book.folder(options.what)
    if isinstance(place, RemotePath):
        raise ModalignError(f"{place}: verify reads every byte, which is for a disk: copy the recipe to one first")
    expected = [split for split in recipe.splits if book.num_samples(recipe.name, split)]
    found = splits_of(place) if place.is_dir() else []
    folders = list(dict.fromkeys([*(place / split for split in expected), *found])) or [place]
    return folders, decoding_check(settings, recipe, changes) if options.decode else None, make_hint(recipe)


def splits_of(folder: Path) -> list[Path]:
    """The folder itself where it holds a manifest, else those below it that do; itself where there are none."""
    if (folder / MANIFEST_NAME).is_file():
        return [folder]
    return sorted(path.parent for path in folder.glob(f"*/{MANIFEST_NAME}")) or [folder]


def _name_damage(report: Report) -> None:
    for problem in report.problems:
        say(f"damaged: {problem}")
    for key, reason in report.bad[:SHOWN]:
        say(f"bad: {key}: {reason}")
    if len(report.bad) > SHOWN:
        say(f"bad: and {count(len(report.bad) - SHOWN)} more in {report.folder}")
