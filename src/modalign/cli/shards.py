"""`modalign shards RECIPE`: from a recipe's raw copy to shards, with what was dropped and why."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any

import yaml

from modalign.cli.decode_check import decode_some
from modalign.cli.parser import VerbParser, read_settings, settings_only
from modalign.cli.terminal import count, making_progress, print_table, say
from modalign.cli.world import make_generated
from modalign.config.recipes import RecipeBook
from modalign.data.licences import remember_accepted, require_accepted
from modalign.data.make import MakeReport, make_shards
from modalign.data.recipes import Recipe
from modalign.errors import ModalignError

SUMMARY = """Make a recipe's shards: a world recipe from the world's settings, any other by the recipe's `make`
(where its raw copy lies is given as make.<setting>=<value>)."""
FEW = 20  # of so many, one sample more or less is five points of a score
EXAMPLES = (
    "modalign shards digits",
    "modalign shards world_audio --world hard",
    "modalign shards gestures make.folder=/data/gestures make.table=/data/gestures/captions.csv",
    "modalign shards vqav2 make.folder=/data/vqav2 --workers 16",
    "modalign shards nsd_fmri make.folder=/data/nsd --accept-licence",
)


def run(arguments: Sequence[str]) -> int:
    """Make the shards and print what was written and what was dropped."""
    parser = VerbParser("shards", SUMMARY, EXAMPLES)
    parser.add_argument("recipe", metavar="RECIPE")
    parser.add_argument("--samples-per-shard", type=int, default=1000, metavar="N", help="default 1000")
    parser.add_argument("--workers", type=int, default=_cores(), metavar="N", help="processes (default: all cores)")
    parser.add_argument("--split", action="append", metavar="SPLIT", help="make only this split (may be repeated)")
    parser.add_argument("--accept-licence", action="store_true", help="you have read the data's licence and accept it")
    parser.add_settings()
    options = parser.parse(arguments)
    making = {}
    for word in settings_only(options.settings):
        key, _, value = word.partition("=")
        if key.startswith("make."):
            making[key.removeprefix("make.")] = read_value(value)
    options.settings = [word for word in options.settings if not word.startswith("make.")]
    settings, _ = read_settings(options)
    book = RecipeBook(settings)
    recipe = book.get(options.recipe)
    if book.is_generated(recipe.name):
        if making:
            raise ModalignError(f"{recipe.name} is made from the world's settings (world.*), not from make.*")
        make_generated(book, [recipe.name])
        return 0
    folder = recipe.path(book.data_root())
    accepted = (*settings.data.accept_licences, *([recipe.name] if options.accept_licence else []))
    require_accepted(recipe, folder, accepted)
    report = _make(recipe, settings.paths.data, options, making)
    remember_accepted(recipe, folder)
    tell(report)
    _tell_small(report, settings.evaluation.splits)
    decode_some(settings, recipe, [report.folder / split for split in report.written])
    return 0


def _make(recipe: Recipe, data: str, options: argparse.Namespace, making: dict[str, Any]) -> MakeReport:
    known = [count for split, count in recipe.splits.items() if count and (not options.split or split in options.split)]
    with making_progress(f"making {recipe.name}", sum(known) or None) as note:
        return make_shards(
            recipe, data, options.samples_per_shard, making, note, workers=options.workers, splits=options.split
        )


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def read_value(text: str) -> Any:
    """A value as YAML reads it: number, list, mapping or text."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _tell_small(report: MakeReport, measured: Sequence[str]) -> None:
    """Warn of measured splits that are too small to tell one run from another."""
    if small := [f"{split} ({n})" for split, n in report.written.items() if split in measured and n < FEW]:
        say(
            f"note: few samples to measure with: {', '.join(small)}; of fewer than {FEW} scores say little: take a "
            "larger share of the samples for it (`splits` of its labels), or more of them"
        )


def tell(report: MakeReport) -> None:
    """Print what was written, and each reason for which samples were dropped, with the first of them."""
    print_table(("split", "samples"), [[s, count(n)] for s, n in report.written.items()], numbers=(1,))
    written, dropped = sum(report.written.values()), sum(report.dropped.values())
    say(f"{report.folder}: {count(written)} written, {count(dropped)} dropped")
    if report.kept:
        say(f"there already: {', '.join(report.kept)}")
    for reason, number in sorted(report.dropped.items(), key=lambda entry: -entry[1]):
        first = next((key for key, why in report.examples if why == reason), "")
        say(f"  {count(number)} dropped: {reason}" + (f" (the first: {first})" if first else ""))
    if again := report.repeats.count:
        across = report.repeats.across
        told = f", {count(across)} of them in another split than before" if across else ""
        say(f"  {count(again)} samples occur more than once (the first: {report.repeats.first}){told}")
