"""WebDataset tars as img2dataset writes them: indexed where they lie, or copied where something is added to them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from modalign.data.index import index_tar
from modalign.data.sources.items import Dropped, Members, Unit, clean_key
from modalign.data.sources.media import checked
from modalign.data.tar_bytes import LocalTar, read_member
from modalign.errors import BadSample, ModalignError


class TarSource:
    """Every *.tar of `folder` (or of `folder`/<split>, by `folders`), each a piece of its own.

    A sample needs a .json member with a text at `caption` (or a list of them, `captions`), and every one of `members`.
    `copy: false` leaves the tars where and as they are, and only writes indexes, without the samples that are unfit;
    `holdout` names splits that take so many of the last tars, where nothing is published for evaluation. `check`
    decodes every member; img2dataset has done so already.
    """

    def __init__(
        self,
        folder: str | Path,
        folders: Mapping[str, str] | None = None,
        members: Collection[str] = ("jpg",),
        caption: str = "caption",
        copy: bool = False,
        check: bool = False,
        holdout: Mapping[str, int] | None = None,
    ) -> None:
        self.folder, self.members, self.caption, self.copy, self.check = (
            Path(folder), tuple(members), caption, copy, check,
        )  # fmt: skip
        self.folders, self.holdout = dict(folders or {"train": "."}), dict(holdout or {})
        if not self.folder.is_dir():
            raise ModalignError(f"no raw copy at {self.folder}: set make.folder to the folder that holds the tars")
        if not copy and caption != "caption":
            raise ModalignError(
                f"make.caption={caption}: tars that stay as they are need 'caption'; set make.copy=true"
            )

    def splits(self) -> list[str]:
        """The splits with tars of their own, then those held out."""
        return [*self.folders, *self.holdout]

    def units(self, samples_per_shard: int, splits: Collection[str]) -> Iterator[Unit | Dropped]:
        """One piece a tar, in name order."""
        for split, name in self.folders.items():
            tars = sorted((self.folder / name).glob("*.tar"))
            taken = sum(self.holdout.values()) if split == next(iter(self.folders)) else 0
            if len(tars) <= taken:
                raise ModalignError(
                    f"{self.folder / name}: {len(tars)} tars, of which {taken} are held out: none is left"
                )
            targets = [split] * (len(tars) - taken) + [
                s for s, count in self.holdout.items() if taken for _ in range(count)
            ]
            for tar, target in zip(tars, targets, strict=True):
                if target in splits:
                    size = tar.stat()
                    payload = [str(tar.relative_to(self.folder)), size.st_size, size.st_mtime_ns]
                    yield Unit(target, payload, None if self.copy else tar)

    def convert(self, unit: Unit) -> Iterator[tuple[str, Members] | Dropped]:
        """The samples of a tar with the members that are asked for, and words of our own."""
        tar = self.folder / unit.payload[0]
        index = index_tar(tar)
        yield from (Dropped(problem.where, problem.reason) for problem in index.problems)
        with LocalTar(tar) as opened:
            for number, (name, places) in enumerate(index.samples):
                key = clean_key(number, Path(name).name)
                wanted = {ext: place for ext, place in places.items() if ext in (*self.members, "json")}
                try:
                    members = {ext: read_member(opened, place, key, ext, tar.name) for ext, place in wanted.items()}
                except BadSample as bad:
                    yield Dropped(key, bad.reason)
                    continue
                if reason := self.refuse(key, members):
                    yield Dropped(key, reason)
                    continue
                text = _record(members)[self.caption]
                words: dict[str, Any] = {"captions": text} if isinstance(text, list) else {"caption": text}
                yield key, {**members, "json": json.dumps(words, ensure_ascii=False).encode()}

    def refuse(self, key: str, members: Members) -> str:
        """Why a sample is left out, or nothing."""
        for extension in self.members:
            if extension not in members:
                return f"no .{extension} in it"
        try:
            record = _record(members)
        except ValueError:
            return ".json is not a mapping"
        text = record.get(self.caption)
        if not any(isinstance(one, str) and one.strip() for one in (text if isinstance(text, list) else [text])):
            return "no caption"
        if self.check:
            try:
                for extension in self.members:
                    checked(members[extension], extension)
            except ValueError as error:
                return str(error)
        return ""


def _record(members: Members) -> dict[str, Any]:
    record = json.loads(members.get("json", b"null"))
    if not isinstance(record, dict):
        raise ValueError("not a mapping")
    return record
