"""The fixed items that every phase is measured on: decoded once, kept for the phases that follow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from modalign.data.dataset import Source
from modalign.errors import BadSample, ModalignError
from modalign.types import MediaSpan


@dataclass(frozen=True, slots=True)
class Item:
    """One sample to be asked about: its media, the words it is scored against, and its files as they are on disk."""

    key: str
    media: tuple[MediaSpan, ...]
    references: tuple[str, ...]
    attributes: Mapping[str, str]
    questions: tuple[tuple[str, str], ...]
    files: Mapping[str, tuple[str, bytes]] = field(repr=False)


def load_items(source: Source, num_items: int) -> list[Item]:
    """The first `num_items` samples of a split in shard order, decoded without randomness; a bad one is an error."""
    return [_item(source, index) for index in range(min(num_items, len(source)))]


def _item(source: Source, index: int) -> Item:
    try:
        key, media, record = source.media(index)
    except BadSample as error:
        hint = f"run `modalign verify {source.recipe.name}`"
        raise ModalignError(f"{error}: evaluation needs every sample; {hint}") from None
    raw = source.reader.read(index)
    captions = record.get("captions") or ([record["caption"]] if "caption" in record else [])
    turns = tuple((str(turn["question"]), str(turn["answer"])) for turn in record.get("conversation", []))
    attributes = {name: str(value) for name, value in (record.get("attributes") or {}).items()}
    files = {m: (ext, raw.members[ext]) for m, ext in source.recipe.media.items() if ext in raw.members}
    return Item(key, tuple(media), tuple(captions), attributes, turns, files)


def vocabulary(groups: Iterable[Sequence[Item]]) -> dict[str, list[str]]:
    """Every value that each attribute has among the items of all splits: what a caption's words are looked up in."""
    values: dict[str, set[str]] = {}
    for items in groups:
        for item in items:
            for name, value in item.attributes.items():
                values.setdefault(name, set()).add(value)
    return {name: sorted(found) for name, found in values.items()}
