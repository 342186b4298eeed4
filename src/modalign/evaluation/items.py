"""The fixed items that every phase is measured on: decoded once, kept for the phases that follow."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from modalign.data.dataset import Source
from modalign.errors import BadSample
from modalign.runs.holes import Holes
from modalign.types import MediaSpan, Sample

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Item:
    """One sample to be asked about: its media, the words it is scored against, and its files as they are on disk."""

    key: str
    media: tuple[MediaSpan, ...]
    references: tuple[str, ...]
    attributes: Mapping[str, str]
    questions: tuple[tuple[str, str], ...]
    files: Mapping[str, tuple[str, bytes]] = field(repr=False)


def load_items(source: Source, num_items: int, split: str, holes: Holes) -> list[Item]:
    """The first `num_items` good samples of a split in shard order, without randomness; bad ones are counted."""
    return list(_good(source, num_items, split, holes, _item))


def load_samples(
    source: Source, num_samples: int, split: str, holes: Holes, checked: Callable[[Sample], Sample] | None = None
) -> list[Sample]:
    """The same of a source whose template lays its samples out; `checked` gives a sample back or raises BadSample."""

    def read(source: Source, index: int) -> Sample:
        sample = Source.at(source, index)
        return sample if checked is None else checked(sample)

    return list(_good(source, num_samples, split, holes, read))


def _good(
    source: Source, count: int, split: str, holes: Holes, read: Callable[[Source, int], Found]
) -> Iterator[Found]:
    name, found, index = f"{source.recipe.name}, {split}", 0, 0
    now = Holes(holes.max_share)  # each reading is judged by itself: the same samples are read after every phase
    while found < count and index < len(source):
        try:
            yield read(source, index)
            found += 1
        except BadSample as bad:
            now.add(name, bad.key, bad.reason)
            holes.add(name, bad.key, bad.reason)
        index += 1
    now.check({name: index}, ended=not found)  # one bad sample of a few is no reason to stop


def _item(source: Source, index: int) -> Item:
    key, media, record = source.media(index)
    raw = source.reader.read(index)
    captions = record.get("captions") or ([record["caption"]] if "caption" in record else [])
    turns = tuple((str(turn["question"]), str(turn["answer"])) for turn in record.get("conversation", []))
    attributes = {name: str(value) for name, value in (record.get("attributes") or {}).items()}
    files = {m: (ext, raw.members[ext]) for m, ext in source.recipe.media.items() if ext in raw.members}
    return Item(key, tuple(media), tuple(captions), attributes, turns, files)


def items_digest(items: Sequence[Item]) -> str:
    """What these items are, in their order: keys, files, captions, attributes, questions and answers."""
    state = hashlib.blake2b(digest_size=8)
    for item in items:
        words = (item.key, item.references, sorted(item.attributes.items()), item.questions)
        state.update(repr(words).encode())
        for modality, (extension, content) in sorted(item.files.items()):
            state.update(f"{modality} {extension} {len(content)} ".encode())
            state.update(content)
    return state.hexdigest()


def vocabulary(groups: Iterable[Sequence[Item]]) -> dict[str, list[str]]:
    """Every value that each attribute has among the items of all splits: what a caption's words are looked up in."""
    values: dict[str, set[str]] = {}
    for items in groups:
        for item in items:
            for name, value in item.attributes.items():
                values.setdefault(name, set()).add(value)
    return {name: sorted(found) for name, found in values.items()}
