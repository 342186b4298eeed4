"""Before outputs are kept: a proof that an output's bits do not hang on its slice, and what keeping saves, measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from modalign.data.collate import Collator
from modalign.data.dataset import Source
from modalign.data.features import Shelf
from modalign.errors import BadSample
from modalign.models.aligned import AlignedModel
from modalign.stages.frozen_path import output
from modalign.types import Batch, MediaBatch, Sample

_TRIES = 4  # samples looked at for each that is wanted
_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Trial:
    """Seconds of a slice that is read and computed, of one whose outputs are read, of writing them; bytes of a sample.

    `passes` is how often the phase reads a sample on average, `held` the share that was kept before it began, `whole`
    whether all media of a slice can be kept, without which none of them is read.
    """

    live_s: float
    kept_s: float
    write_s: float
    sample_bytes: float
    passes: float
    held: float
    whole: bool = True

    @property
    def pays(self) -> bool:
        """Whether the phase is the shorter for it: the first pass writes, all later ones read."""
        first = 1.0 - self.held
        return self.whole and (self.passes - first) * (self.live_s - self.kept_s) > first * self.write_s

    def to_dict(self) -> dict[str, float]:
        """Plain values."""
        return {name: value if name == "whole" else float(f"{value:.4g}") for name, value in asdict(self).items()}


def usable(source: Source, collator: Collator, count: int, first: int) -> list[Sample]:
    """`count` samples of the source from position `first` on, decoded, with their names; fewer where most are bad."""
    samples: list[Sample] = []
    for position in range(first, first + _TRIES * count):
        try:
            samples.append(collator.checked(source.sample(position, "names")))
        except BadSample:
            continue
        if len(samples) == count:
            break
    return samples


def why_not(
    model: AlignedModel, modality: str, shelf: Shelf, slices: Sequence[Batch], device: torch.device
) -> str | None:
    """Why a modality's outputs cannot be kept without changing a bit; None where nothing speaks against it."""
    first, second = (batch.to(device).media[modality] for batch in slices)
    if not any((*first.kept_as, *second.kept_as)):
        return "what training decodes is random, or a vector, or has variants"
    if first.values.shape != second.values.shape:
        return "its media differ in shape"
    tokens = output(model, modality, shelf.reached, first)
    if tokens.mask is not None or tokens.positions is not None or not tokens.values.is_contiguous():
        return "its outputs are more than one block of numbers"
    if not place_is_nothing(lambda media: output(model, modality, shelf.reached, media).values, first, second):
        return "on this machine the last bits of an output depend on its place in a slice"
    return None


def place_is_nothing(compute: Callable[[MediaBatch], Tensor], first: MediaBatch, second: MediaBatch) -> bool:
    """Whether outputs keep every bit when media move on by one place and get the other slice's media for company.

    An element of a product is summed in an order that its place and the product's size decide, never the numbers in
    other rows. So where two neighbouring places agree on thousands of numbers, for all neighbours, all places agree.
    """
    apart = [compute(first), compute(second)]
    count = len(first.values)
    for turn in (0, 1):
        sides = [(place + turn) % 2 for place in range(count)]
        moved = torch.stack([(first, second)[side].values[place - 1] for place, side in enumerate(sides)])
        mixed = compute(MediaBatch(moved))
        if not all(torch.equal(mixed[place], apart[side][place - 1]) for place, side in enumerate(sides)):
            return False
    return True


def measure(
    model: AlignedModel, source: Source, collator: Collator, rows: int, first: int, device: torch.device, passes: float
) -> Trial:
    """Read and compute a few slices, keep what came, read it again; the fastest of a few rounds counts."""
    slices = [usable(source, collator, rows, first + number * _TRIES * rows) for number in range(2)]
    names = [_names(source, samples) for samples in slices]
    every = [(m, name) for one in names for m, found in one.items() for name in found]
    named = [(m, name) for m, name in every if name is not None]
    held = sum((source.shelves[m].store.files.folder / name).exists() for m, name in named) / max(1, len(named))
    live, kept, write = [], [], []
    for number in range(_ROUNDS):
        place = number % 2
        begin = time.perf_counter()
        read = usable(source, collator, rows, first + place * _TRIES * rows)
        outputs = _computed(model, source, collator(read, source.recipe.name).to(device))
        live.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        for modality, values in outputs.items():
            source.shelves[modality].keep(names[place][modality], values)
        write.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        for modality, found in names[place].items():
            there = [source.shelves[modality].find(name) for name in found if name is not None]
            if whole := [value for value in there if value is not None]:
                torch.stack(whole).to(device)
        kept.append(time.perf_counter() - begin)
    size = sum(values.nbytes for values in outputs.values()) / rows
    return Trial(min(live), min(kept), max(write), size, passes, held, len(named) == len(every) > 0)


def _computed(model: AlignedModel, source: Source, batch: Batch) -> dict[str, Tensor]:
    outputs = {m: output(model, m, shelf.reached, batch.media[m]).values for m, shelf in source.shelves.items()}
    for values in outputs.values():
        if values.device.type == "cuda":
            torch.cuda.synchronize(values.device)
    return outputs


def _names(source: Source, samples: Sequence[Sample]) -> dict[str, list[str | None]]:
    """By modality that has a shelf, under what the outputs of the samples' media are kept."""
    names: dict[str, list[str | None]] = {modality: [] for modality in source.shelves}
    for sample in samples:
        for span in sample.spans:
            found: Any = getattr(span, "modality", None)
            if found in names:
                names[found].append(getattr(span, "kept_as", None))
    return names
