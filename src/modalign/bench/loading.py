"""Rows: our reader and loader against the webdataset library with a DataLoader, from the same shards."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import torch
import webdataset as wds
from numpy.random import default_rng
from torch.utils.data import DataLoader

from modalign.bench.pictures import collator, picture_source, slices
from modalign.bench.setting import Result, Setting
from modalign.bench.steps import per_second
from modalign.bench.subject import MODALITY
from modalign.bench.timing import Contender, paired, spread
from modalign.data.dataset import Source
from modalign.errors import ModalignError
from modalign.types import Batch, MediaSpan, Sample


def measure(setting: Setting, name: str) -> Result:
    """A pass over all samples, decoded and collated or raw."""
    raw = name == "loader_raw"
    source = picture_source(setting, setting.frame.settings)
    size = min(setting.frame.scale.samples, len(source))
    steps = len(source) // size
    count = len(source) if raw else steps * size
    if raw:
        ours, peer = (lambda: read_all(source)), (lambda: read_tars(source))
    else:
        ours, peer = (lambda: decode_all(setting, source, size, steps)), (lambda: decode_tars(setting, source, size))
    agreement = same_samples(source)
    repeats = 8 if raw else 1
    many = {"ours": ours, "peer": peer, "ours again": ours}
    seconds = setting.time({key: Contender(partial(repeat, run, repeats)) for key, run in many.items()})
    return Result(
        paired(seconds["peer"], seconds["ours"]), per_second(count * repeats, seconds["ours"]),
        per_second(count * repeats, seconds["peer"]), agreement, 1.0,
        spread(seconds["ours"], seconds["ours again"]), seconds,
    )  # fmt: skip


def repeat(run: Any, times: int) -> None:
    """So often that it takes long enough to be timed."""
    for _ in range(times):
        run()


def read_all(source: Source) -> int:
    """Bytes of every sample, in the shuffled order of training."""
    total = 0
    for position in range(len(source)):
        sample = source.reader.read(source.stream(position)[1])
        total += sum(map(len, sample.members.values()))
    return total


def tars(source: Source) -> list[str]:
    """The shards' files."""
    reader: Any = source.reader
    return [str(reader.tars / shard.name) for shard in reader.manifest.shards]


def read_tars(source: Source) -> int:
    """Bytes of every sample through webdataset, shards and samples shuffled."""
    dataset = wds.WebDataset(tars(source), shardshuffle=100, seed=0).shuffle(1000)
    return sum(len(value) for sample in dataset for value in sample.values() if isinstance(value, bytes))


def decode_all(setting: Setting, source: Source, size: int, steps: int) -> int:
    """Every slice of an epoch through our DataLoader, standardised as it arrives."""
    return sum(batch.to("cpu").num_samples for batch in slices(setting, source, size, 0, steps))


def decode_tars(setting: Setting, source: Source, size: int) -> int:
    """The same decoder, template and collator behind webdataset's own shuffling and batching.

    Each picture is standardised where it is decoded, as torchvision's usual transforms do.
    """
    collate = collator()
    decoder, rng = source.decoders[MODALITY], default_rng(0)
    standard: Any = decoder.standard  # type: ignore[attr-defined]

    def sample(item: dict[str, Any]) -> Sample:
        record = json.loads(item["json"])
        media = [MediaSpan(MODALITY, standard(decoder(item["jpg"], rng)))]
        return Sample(item["__key__"], source.recipe.name, source.template.spans(media, record, (), rng), record)

    dataset = wds.WebDataset(tars(source), shardshuffle=100, seed=0).shuffle(1000).map(sample)
    dataset = dataset.batched(size, collation_fn=collate, partial=False)
    loader: DataLoader[Batch] = DataLoader(dataset, batch_size=None, num_workers=setting.size.workers)
    return sum(batch.num_samples for batch in loader)


def same_samples(source: Source) -> str:
    """That both read the same samples, and that a picture decodes to the same numbers."""
    theirs = {item["__key__"]: item for item in wds.WebDataset(tars(source), shardshuffle=False)}
    ours = {source.reader.read(index).key: index for index in range(len(source))}
    first = source.at(0)
    value = next(span.value for span in first.spans if isinstance(span, MediaSpan))
    other = source.decoders[MODALITY](theirs[first.key]["jpg"], None) if first.key in theirs else torch.zeros(0)
    if ours.keys() != theirs.keys() or not torch.equal(value, other):
        raise ModalignError(
            f"bench loader: {len(ours)} samples of ours are not the {len(theirs)} that webdataset reads"
        )
    return f"the same {len(ours)} samples"
