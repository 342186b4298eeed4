"""From a recipe's raw copy to shards: runs the recipe's `make` target, and counts what is dropped and why."""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modalign.data.manifest import MANIFEST_NAME, read_manifest
from modalign.data.recipes import MAKER_PREFIX, Recipe
from modalign.data.shards import ShardWriter
from modalign.data.sources.items import Dropped, Item
from modalign.errors import ModalignError, unknown_name

_EXAMPLES = 20

Progress = Callable[[int, int], None]
"""Told after every sample how many were written and how many dropped so far."""


@dataclass(slots=True)
class MakeReport:
    """What was made: samples written by split, samples dropped by reason, and the first of those (key, reason)."""

    folder: Path
    written: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    examples: list[tuple[str, str]] = field(default_factory=list)

    def drop(self, key: str, reason: str) -> None:
        """Count a dropped sample."""
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append((key, reason))


def make_shards(
    recipe: Recipe,
    data_root: Path | str,
    samples_per_shard: int = 1000,
    overrides: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    **places: str,
) -> MakeReport:
    """Make every split of a recipe below `data_root` and report what was written and dropped.

    `overrides` replace or add settings of the recipe's `make` (where somebody's raw copy lies); `places` fill names in
    braces in the recipe's folder. Raises ModalignError where a split is there already or nothing can be written; then
    no split of this call is left behind half written.
    """
    if recipe.make is None:
        raise ModalignError(
            f"recipe {recipe.name} does not say how it is made (key `make`): get it from {recipe.source}, "
            "put its tars into one folder a split, and run `modalign index` on each"
        )
    report = MakeReport(recipe.path(data_root, **places))
    if made := sorted(path.parent.name for path in report.folder.glob(f"*/{MANIFEST_NAME}")):
        raise ModalignError(f"{report.folder} holds shards already ({', '.join(made)}): remove it to make them again")
    maker = build_maker(recipe.make, {**(overrides or {})}, f"recipe {recipe.name}: make")
    if isinstance(maker, Path):
        report.folder = maker
        report.written = {
            path.parent.name: read_manifest(path.parent).samples for path in maker.glob("*/manifest.json")
        }
        return report
    _write(recipe, maker, samples_per_shard, report, progress or _silent)
    return report


def build_maker(make: Mapping[str, Any], overrides: Mapping[str, Any], where: str) -> Any:
    """Call the `_target_` of a recipe's `make` with its settings: an iterable of samples, or the folder it has made."""
    settings = {**make, **overrides}
    target = str(settings.pop("_target_", ""))
    module_name, _, name = target.rpartition(".")
    if not target.startswith(MAKER_PREFIX):
        raise ModalignError(f"{where}._target_ must begin with '{MAKER_PREFIX}', not '{target}'")
    try:
        factory = getattr(importlib.import_module(module_name), name)
    except (ModuleNotFoundError, AttributeError) as error:
        raise ModalignError(f"{where}._target_ '{target}' is not there: {error}") from error
    accepted = inspect.signature(factory).parameters
    for setting in settings:
        if setting not in accepted:
            raise unknown_name("setting", setting, accepted, f"{where} ({target})")
    missing = [name for name, p in accepted.items() if p.default is p.empty and name not in settings]
    if missing:
        raise ModalignError(f"{where} ({target}) needs {', '.join(missing)}: give it as make.{missing[0]}=…")
    return factory(**settings)


def _silent(written: int, dropped: int) -> None:
    pass


def _write(
    recipe: Recipe, maker: Iterable[Item | Dropped], samples_per_shard: int, report: MakeReport, progress: Progress
) -> None:
    writers: dict[str, ShardWriter] = {}
    with ExitStack() as stack:
        for item in maker:
            progress(sum(writer.num_samples for writer in writers.values()), sum(report.dropped.values()))
            if isinstance(item, Dropped):
                report.drop(item.key, item.reason)
                continue
            split, key, members = item
            if reason := _unfit(recipe, members):
                report.drop(key, reason)
                continue
            if split not in writers:
                _check_split(recipe, split)
                writers[split] = stack.enter_context(ShardWriter(report.folder / split, samples_per_shard))
            writers[split].write(key, members)
        if not writers:
            raise ModalignError(f"recipe {recipe.name}: not one sample could be made; {_told(report)}")
    report.written = {split: writer.num_samples for split, writer in writers.items()}


def _check_split(recipe: Recipe, split: str) -> None:
    if recipe.splits and split not in recipe.splits:
        raise unknown_name("split", split, recipe.splits, f"recipe {recipe.name} (a row names it)")
    if not split or "/" in split or split.startswith("."):
        raise ModalignError(f"recipe {recipe.name}: '{split}' cannot be the name of a split")


def _unfit(recipe: Recipe, members: Mapping[str, bytes]) -> str:
    """Why a sample is not one of the recipe, or nothing."""
    needed = [recipe.text, *(part for extension in recipe.media.values() for part in extension.split("+"))]
    for extension in needed:
        if extension not in members:
            return f"no .{extension} in it (it has {', '.join(sorted(members))})"
    try:
        json.loads(members[recipe.text])
    except ValueError:
        return f".{recipe.text} is not JSON"
    return ""


def _told(report: MakeReport) -> str:
    if not report.dropped:
        return "the raw data are empty"
    reason, count = max(report.dropped.items(), key=lambda entry: entry[1])
    return f"{sum(report.dropped.values())} were dropped, {count} because of: {reason}"
