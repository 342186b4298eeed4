"""What a training command must not do with its data, told before torch is imported: the split guard and licences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from modalign.config.recipes import RecipeBook
from modalign.config.schema import Settings
from modalign.config.specs import RunSpec
from modalign.data.licences import require_accepted
from modalign.data.manifest import read_manifest
from modalign.errors import ModalignError

_TRAIN = "train"


def check_permissions(settings: Settings, book: RecipeBook, specs: Iterable[RunSpec]) -> list[str]:
    """Raise ModalignError for data that may not be trained on; return what is known of overlaps, a sentence each.

    Refused are recipes whose licence is not accepted, and a training split that holds a shard of a split which this
    command measures.
    """
    trained = list(dict.fromkeys(name for spec in specs for name in spec.recipes))
    for name in trained:
        require_accepted(book.get(name), book.folder(name), settings.data.accept_licences)
    measured = _measured(settings, book)
    _refuse_same_shards(book, trained, measured)
    return [
        f"recipe {name} trains on what {place} measures: {told}"
        for name in trained
        for place, told in book.get(name).overlaps.items()
        if tuple(place.split("/")) in measured
    ]


def _measured(settings: Settings, book: RecipeBook) -> list[tuple[str, str]]:
    """(recipe, split) of everything that is measured after a phase."""
    names = [name for modality in settings.modalities for name in book.alignment_recipes(modality)]
    names += [*settings.data.pairs, *([settings.data.text_loss] if settings.data.text_loss else [])]
    return [(name, split) for name in dict.fromkeys(names) for split in settings.evaluation.splits]


def _refuse_same_shards(book: RecipeBook, trained: Iterable[str], measured: Iterable[tuple[str, str]]) -> None:
    """By content: whoever copies a test folder into a training folder is told."""
    held: dict[str, str] = {}
    for name, split in measured:
        held |= {sha256: f"{name}/{split}" for _, sha256 in _shards(book, name, split)}
    for name in trained:
        for shard, sha256 in _shards(book, name, _TRAIN):
            if sha256 in held:
                raise ModalignError(
                    f"recipe {name}: shard {shard} of its training split is also in {held[sha256]}, which is measured: "
                    f"an evaluation split cannot enter training"
                )


def _shards(book: RecipeBook, name: str, split: str) -> Iterator[tuple[str, str]]:
    """Name and SHA-256 of a split's shards, where they are on this machine; generated worlds keep splits apart."""
    folder = book.folder(name)
    if isinstance(folder, Path) and not book.is_generated(name) and (folder / split / "manifest.json").is_file():
        for shard in read_manifest(folder / split).shards:
            yield shard.name, shard.sha256
