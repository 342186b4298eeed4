"""Row: the second pass over films whose features are kept, against one that decodes and encodes each film again."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor

from modalign.bench.examine import Examined
from modalign.bench.pictures import slices
from modalign.bench.setting import Result, Setting
from modalign.bench.steps import Step, per_second
from modalign.bench.subject import ALIGN, Subject, make_subject
from modalign.bench.timing import Contender, paired, spread, synchronise
from modalign.config.build import build
from modalign.data.dataset import Source
from modalign.data.features import FeatureStore
from modalign.data.order import Stream
from modalign.data.reader import ShardReader
from modalign.data.recipes import Recipe
from modalign.data.shards import ShardWriter
from modalign.data.templates import CaptionTemplate
from modalign.errors import ModalignError
from modalign.models.freezing import plan_freeze
from modalign.stages.feature_cache import Keeper
from modalign.stages.frozen_path import shelves
from modalign.types import DECODED, Batch

FILM, NAME = "video", "films"
_STEPS = 2  # of a pass
_FRAMES = 30
_STORE_BYTES = 10**10


class Pass:
    """A pass over the films in slices, each read and trained on; `number` gives its order."""

    def __init__(self, setting: Setting, subject: Subject, source: Source, number: int) -> None:
        self.setting, self.subject, self.source, self.number = setting, subject, source, number
        self.batch: Batch | None = None
        self.step = Step(subject, ALIGN, self._loss, setting.on_gpu, setting.size.optimizer)

    def batches(self) -> Iterator[Batch]:
        """The slices of the pass, in the bench's way of loading."""
        first = self.number * _STEPS
        yield from slices(self.setting, self.source, len(self.source) // _STEPS, first, first + _STEPS)

    def __call__(self) -> None:
        """Train on each slice."""
        for batch in self.batches():
            self.batch = batch.to(self.subject.device)
            self.step()
        synchronise(self.subject.device)

    def examined(self) -> list[tuple[bool, Examined]]:
        """Of each slice: whether all of it was read as features, and what its step computes."""
        found = []
        for batch in self.batches():
            self.batch = batch.to(self.subject.device)
            found.append((batch.media[FILM].reached != DECODED, self.step.examined()))
        return found

    @property
    def contender(self) -> Contender:
        """The pass, to be timed."""
        return Contender(self, self.step.prepare)

    def _loss(self) -> Tensor:
        assert self.batch is not None
        output = self.subject.model.loss(self.batch)
        return output.loss_sum / output.weight_sum


def measure(setting: Setting, name: str) -> Result:
    """Fill in a first pass, then time the second, whose slices are others."""
    subject = make_subject(setting.size.step, setting.device, setting.changes, half=setting.on_gpu, modality=FILM)
    rows = max(2, setting.size.step.samples // 4)
    live, kept = (film_source(setting, subject, rows * _STEPS) for _ in range(2))
    plan_freeze(subject.model, ALIGN).apply(subject.model)
    store = FeatureStore(setting.folder / "features", _STORE_BYTES)
    kept.shelves = shelves(subject.settings, subject.model, (FILM,), rows, setting.device, store)
    subject.model.keep = keeper = Keeper(kept.shelves)
    Pass(setting, subject, kept, 0).examined()
    keeper.write()
    again, read = Pass(setting, subject, live, 1), Pass(setting, subject, kept, 1)
    wanted, seen = again.examined(), read.examined()
    agreement = same_bits(seen, wanted)
    seconds = setting.time(
        {"ours": read.contender, "peer": again.contender, "ours again": Pass(setting, subject, kept, 1).contender}
    )
    flops = sum(one.flops for _, one in wanted) / sum(one.flops for _, one in seen)
    return Result(
        paired(seconds["peer"], seconds["ours"]), per_second(len(kept), seconds["ours"]),
        per_second(len(kept), seconds["peer"]), agreement, flops,
        spread(seconds["ours"], seconds["ours again"]), seconds,
    )  # fmt: skip


def same_bits(seen: list[tuple[bool, Examined]], wanted: list[tuple[bool, Examined]]) -> str:
    """That steps on kept features are those on films, to the bit."""
    for (read, ours), (_, live) in zip(seen, wanted, strict=True):
        same = all(torch.equal(ours.gradients[name], live.gradients[name]) for name in live.gradients)
        if not read or ours.loss != live.loss or not same:
            told = "other losses or gradients than computed ones" if read else "not been kept"
            raise ModalignError(f"bench cache: features of films have {told}: not timed")
    return f"losses and gradients of {len(seen)} steps equal to the bit"


def film_source(setting: Setting, subject: Subject, count: int) -> Source:
    """`count` films, decoded by the modality's own decoder, in another order each pass."""
    folder = write_films(setting.folder / NAME, count, setting.size.image_px)
    recipe = Recipe.model_validate(
        {"name": NAME, "title": "Films", "source": "generated", "licence": "CC0-1.0", "task": "caption",
         "media": {FILM: "mp4"}, "folder": NAME}
    )  # fmt: skip
    reader = ShardReader(folder)
    decoder = build(subject.settings.modalities[FILM].decoder, f"modalities.{FILM}.decoder")
    return Source(recipe, reader, {FILM: decoder}, CaptionTemplate(), Stream(len(reader), 0, 1, count))


def write_films(folder: Path, count: int, size_px: tuple[int, int]) -> Path:
    """`count` films in H.264 of smooth colours that drift, with a caption each, as a split's shards."""
    if (folder / "manifest.json").is_file():
        return folder
    random = np.random.default_rng(0)
    with ShardWriter(folder) as writer:
        for number in range(count):
            rough = random.integers(0, 256, (size_px[1] // 16, size_px[0] // 16, 3), dtype=np.uint8)
            large = rough.repeat(16, axis=0).repeat(16, axis=1)[: size_px[1] // 2 * 2, : size_px[0] // 2 * 2]
            record = json.dumps({"caption": f"film {number} of colours"}).encode()
            writer.write(f"{number:06d}", {"mp4": _encoded(large), "json": record})
    return folder


def _encoded(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=15, options={"preset": "superfast", "threads": "1"})
        stream.height, stream.width, stream.pix_fmt = *picture.shape[:2], "yuv420p"
        for shift in range(_FRAMES):
            frame = av.VideoFrame.from_ndarray(np.roll(picture, 2 * shift, axis=1), format="rgb24")
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return buffer.getvalue()
