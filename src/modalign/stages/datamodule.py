"""The curriculum's DataModule: slices of one modality set each, by number, from any optimizer step on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, Sampler

from modalign.curriculum.schedule import SliceSchedule
from modalign.data.ahead import Ahead
from modalign.data.collate import Collator
from modalign.data.dataset import Source
from modalign.data.slices import SliceDataset
from modalign.errors import ModalignError
from modalign.types import Batch


class SlicesFrom(Sampler[int]):
    """Slice numbers from `first` on; its length is the whole phase's, since Lightning counts batches from the start."""

    def __init__(self, first: int, total: int) -> None:
        self.first = first
        self.total = total

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.total))

    def __len__(self) -> int:
        return self.total


class CurriculumData(pl.LightningDataModule):
    """Feeds a phase: slice n belongs to the source that the mixture's schedule says, whatever workers and restarts."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        shares: Mapping[str, Fraction],
        slice_size: int,
        slices_per_step: int,
        total_steps: int,
        collator: Collator,
        seed: int = 0,
        workers: int = 0,
        ahead: int = 0,
    ) -> None:
        super().__init__()
        self.sources = dict(sources)
        self.schedule = SliceSchedule(shares, seed)
        self.slice_size = slice_size
        self.slices_per_step = slices_per_step
        self.total_steps = total_steps
        self.collator = collator
        self.workers = workers
        self.ahead = ahead

    def setup(self, stage: str) -> None:
        """A slice must divide among the processes."""
        world = self.trainer.world_size if self.trainer else 1
        if self.slice_size % world:
            raise ModalignError(
                f"slice_size={self.slice_size} does not divide among {world} processes: "
                f"set stages.<stage>.slice_size to a multiple of {world}"
            )

    def train_dataloader(self) -> DataLoader[Batch] | Ahead[Batch]:
        """Slices from the trainer's optimizer step on, in order; by a thread where `ahead` says so.

        Not where workers make them, nor where outputs of frozen parts are kept: a shelf is one thread's.
        """
        assert self.trainer is not None
        dataset = SliceDataset(
            self.sources,
            self.schedule,
            self.slice_size,
            self.trainer.global_rank,
            self.trainer.world_size,
            self.collator,
            stand_in=True,
            threads=1 if self.workers or self.ahead else torch.get_num_threads(),
        )
        first = self.trainer.global_step * self.slices_per_step
        loader = DataLoader(
            dataset,
            batch_size=None,
            sampler=SlicesFrom(first, self.total_steps * self.slices_per_step),
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            prefetch_factor=4 if self.workers else None,
            pin_memory=self.trainer.strategy.root_device.type == "cuda",
            # Its own: a loader draws a seed when it starts, which a resumed run would miss from its dropout's numbers.
            generator=torch.Generator(),
        )
        threaded = self.ahead and not self.workers and not any(source.shelves for source in self.sources.values())
        return Ahead(loader, self.ahead) if threaded else loader

    def consumed(self, steps: int) -> dict[str, int]:
        """Samples read from each source in the first `steps` optimizer steps, holes included."""
        counts = self.schedule.counts(steps * self.slices_per_step)
        return {name: count * self.slice_size for name, count in counts.items()}
