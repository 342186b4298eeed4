"""Shards without random access (http and the like), streamed through webdataset; resume is then approximate."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
import re
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import get_worker_info

from modalign.data.extensions import MEDIA_EXTENSIONS, TEXT_EXTENSIONS
from modalign.data.manifest import read_manifest
from modalign.data.order import derive_seed
from modalign.data.reader import RawSample
from modalign.data.recipes import Recipe, make_hint
from modalign.data.remote import SCHEMES, RemotePath, location
from modalign.errors import BadSample, ModalignError

log = logging.getLogger(__name__)

_SCHEME = re.compile(r"^([a-zA-Z][a-zA-Z0-9+.\-]*):")
_PEEK_BYTES = 1 << 16


def check_urls(urls: str | Sequence[str]) -> list[str]:
    """The addresses of tars with braces expanded; raises ModalignError for `pipe:`, which would run a shell."""
    from braceexpand import braceexpand

    expanded = [url for pattern in ([urls] if isinstance(urls, str) else urls) for url in braceexpand(pattern)]
    if not expanded:
        raise ModalignError("no address of a shard to stream: give urls")
    for url in expanded:
        scheme = _SCHEME.match(url)
        if scheme and scheme.group(1).lower() not in SCHEMES:
            raise ModalignError(f"'{url[:60]}' is refused: shards are streamed from {', '.join(SCHEMES)} or a path")
    return expanded


class StreamReader:
    """Samples from tars at `urls` in random order for ever; `read` gives the next one and takes its index for a count.

    Every process and loader worker draws shards of its own at random, with replacement, so that none runs out before
    the others; `shuffle` samples are mixed. An unfinished run that continues draws anew: resume is approximate.
    What is damaged on the way is raised as BadSample, to be counted. `num_samples` is the number called a pass.
    """

    def __init__(
        self, urls: str | Sequence[str], num_samples: int, seed: int = 0, rank: int = 0, shuffle: int = 1000
    ) -> None:
        if num_samples < 1 or shuffle < 1:
            raise ModalignError(
                f"a stream needs num_samples and shuffle of at least 1, not {num_samples} and {shuffle}"
            )
        self.urls = check_urls(urls)
        self.num_samples, self.seed, self.rank, self.shuffle = num_samples, seed, rank, shuffle
        self._samples: tuple[int, Iterator[dict[str, Any]]] | None = None
        self._problems: deque[BadSample] = deque()
        self._failures = 0
        log.warning("%d shards are streamed: an interrupted run will resume with other samples", len(self.urls))

    def __len__(self) -> int:
        return self.num_samples

    @property
    def digest(self) -> str:
        """SHA-256 over the addresses, in hex; what lies there is not known."""
        return hashlib.sha256(json.dumps([self.urls, self.num_samples]).encode()).hexdigest()

    def read(self, index: int, extensions: Collection[str] | None = None) -> RawSample:
        """The next sample of this process; raises BadSample for damage, ModalignError where no shard can be read."""
        if self._samples is None or self._samples[0] != os.getpid():
            self._samples = (os.getpid(), self._open(index))
        sample = next(self._samples[1])
        if self._problems:
            raise self._problems.popleft()
        members = {name: data for name, data in sample.items() if not name.startswith("__")}
        if extensions is not None:
            members = {name: members[name] for name in extensions if name in members}
        return RawSample(sample["__key__"], members)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_samples": None}

    def _open(self, first: int) -> Iterator[dict[str, Any]]:
        from webdataset import filters, tariterators

        worker = get_worker_info()
        draw = random.Random(derive_seed(self.seed, self.rank, worker.id if worker else 0, first))
        files = tariterators.tar_file_expander(self._streams(draw), handler=self._note, select_files=_is_known)
        samples = tariterators.group_by_keys(files, handler=self._note)
        return iter(filters.shuffle(self.shuffle, initial=min(self.shuffle, 100), rng=draw)(samples))

    def _streams(self, draw: random.Random) -> Iterator[dict[str, Any]]:
        """Shards at random, opened through fsspec (webdataset's own opener can run a shell)."""
        import fsspec

        while True:
            url = draw.choice(self.urls)
            before = self._failures
            try:
                with fsspec.open(url, "rb") as stream:
                    yield {"url": url, "stream": stream}
                    # tarfile stops in silence at a damaged header: what follows an archive's end must be zeros.
                    if self._failures == before and any(stream.read(_PEEK_BYTES)):
                        self._report(url, "a damaged header hides the rest of the shard")
                if self._failures == before:
                    self._failures = 0
            except ModalignError:
                raise
            except Exception as error:  # file systems of fsspec raise what their network libraries raise
                self._report(url, f"cannot be read: {error}")

    def _note(self, error: Exception) -> bool:
        """webdataset's handler: keep the reason, and go on with the next sample or shard."""
        self._report(str(error.args[-1]) if len(error.args) > 1 else "shard", str(error.args[0]) if error.args else "?")
        return True

    def _report(self, url: str, reason: str) -> None:
        log.warning("%s: %s", url, reason)
        self._problems.append(BadSample(url, reason))
        self._failures += 1
        if self._failures > 2 * len(self.urls) + 8:
            raise ModalignError(f"no shard can be streamed; the last one was {url}: {reason}")


def open_stream(
    recipe: Recipe, folder: Path | RemotePath | str, split: str, seed: int = 0, rank: int = 0
) -> StreamReader:
    """A recipe's split as a stream: from its `urls`, or from the tars below `folder` where it names none."""
    if split not in recipe.urls:
        manifest = read_manifest(location(folder) / split, make_hint(recipe))
        tars = location(manifest.tars) if manifest.tars else location(folder) / split
        return StreamReader([str(tars / shard.name) for shard in manifest.shards], manifest.samples, seed, rank)
    count = recipe.splits.get(split)
    if count is None:
        raise ModalignError(f"recipe {recipe.name}: split {split} is streamed, so splits.{split} must say its size")
    return StreamReader(recipe.urls[split], count, seed, rank)


def _is_known(name: str) -> bool:
    """Whether a member is ever decoded; the others are not even kept in memory."""
    return name.rsplit(".", 1)[-1].lower() in MEDIA_EXTENSIONS.keys() | TEXT_EXTENSIONS
