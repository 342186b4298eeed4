"""From a recipe's raw copy to shards: runs the recipe's `make` target, and counts what is dropped and why."""

from __future__ import annotations

import inspect
import json
from collections.abc import Collection, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from modalign.data.convert import convert, finished, unfinished
from modalign.data.manifest import read_manifest
from modalign.data.recipes import Recipe
from modalign.data.report import MakeReport, Progress
from modalign.data.shards import ShardWriter
from modalign.data.sources.items import Dropped, Item, UnitSource
from modalign.errors import ModalignError, unknown_name
from modalign.targets import locate

__all__ = ["MakeReport", "Progress", "build_maker", "make_shards"]


def make_shards(
    recipe: Recipe,
    data_root: Path | str,
    samples_per_shard: int = 1000,
    overrides: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    workers: int = 1,
    splits: Collection[str] | None = None,
    **places: str,
) -> MakeReport:
    """Make every split of a recipe below `data_root` and report what was written and dropped.

    `overrides` replace or add settings of the recipe's `make` (where somebody's raw copy lies); `places` fill names in
    braces in the recipe's folder. A source that comes in pieces is made by `workers` processes, narrowed to `splits`;
    what an interrupted call has finished of it is kept. Raises ModalignError where all is there already or nothing can
    be written; of a source that does not come in pieces, no split is left behind half written.
    """
    if recipe.make is None:
        raise ModalignError(
            f"recipe {recipe.name} does not say how it is made (key `make`): get it from {recipe.source}, "
            "put its tars into one folder a split, and run `modalign index` on each"
        )
    report = MakeReport(recipe.path(data_root, **places))
    made = finished(report.folder)
    if made and set(splits or recipe.splits) <= set(made) and not unfinished(report.folder):
        raise _there(report.folder, made)
    maker = build_maker(recipe.make, {**(overrides or {})}, f"recipe {recipe.name}: make")
    if isinstance(maker, UnitSource):
        report.kept = made
        wanted = _wanted(recipe, maker, splits, made)
        if not wanted:
            raise _there(report.folder, made)
        settings = {**recipe.make, **(overrides or {})}
        convert(recipe, maker, report, samples_per_shard, workers, progress or _silent, wanted, settings)
        return report
    if made or splits is not None:
        raise ModalignError(
            f"{report.folder}: recipe {recipe.name} is made whole, not by split: remove the folder first"
        )
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
    factory = locate(target, where)
    accepted = inspect.signature(factory).parameters
    for setting in settings:
        if setting not in accepted:
            raise unknown_name("setting", setting, accepted, f"{where} ({target})")
    missing = [name for name, p in accepted.items() if p.default is p.empty and name not in settings]
    if missing:
        raise ModalignError(f"{where} ({target}) needs {', '.join(missing)}: give it as make.{missing[0]}=…")
    return factory(**settings)


def _wanted(recipe: Recipe, source: UnitSource, splits: Collection[str] | None, made: Collection[str]) -> list[str]:
    """The splits to be made: those asked for, or all, less those that are there."""
    known = source.splits()
    for split in splits or ():
        if split not in known:
            raise unknown_name("split", split, known, f"recipe {recipe.name}")
    for split in known:
        _check_split(recipe, split)
    return [split for split in known if (splits is None or split in splits) and split not in made]


def _there(folder: Path, made: Collection[str]) -> ModalignError:
    return ModalignError(f"{folder} holds shards already ({', '.join(made)}): remove it to make them again")


def _silent(written: int, dropped: int) -> None:
    pass


def _write(
    recipe: Recipe, maker: Iterable[Item | Dropped], samples_per_shard: int, report: MakeReport, progress: Progress
) -> None:
    writers: dict[str, ShardWriter] = {}
    with ExitStack() as stack:
        for item in maker:
            progress(sum(writer.num_samples for writer in writers.values()), report.total_dropped)
            if isinstance(item, Dropped):
                report.drop(item.split, item.key, item.reason)
                continue
            split, key, members = item
            if reason := _unfit(recipe, members):
                report.drop(split, key, reason)
                continue
            if split not in writers:
                _check_split(recipe, split)
                writers[split] = stack.enter_context(ShardWriter(report.folder / split, samples_per_shard))
            writers[split].write(key, members)
            report.repeats.add(split, key, members)
        if not writers:
            raise ModalignError(f"recipe {recipe.name}: not one sample could be made; {report.told()}")
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
