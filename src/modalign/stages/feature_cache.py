"""Keeps what frozen parts make of deterministically decoded samples, where that changes no bit and, by `auto`, pays."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from modalign.config.schema import Settings, StageSettings
from modalign.data.dataset import Source
from modalign.data.features import FeatureStore, Shelf
from modalign.models.aligned import AlignedModel
from modalign.runs.manifest import Manifest
from modalign.runs.randomness import capture_randomness, restore_randomness
from modalign.runs.ranks import ALONE, Ranks
from modalign.stages.datamodule import CurriculumData
from modalign.stages.feature_trial import measure, usable, why_not
from modalign.stages.frozen_path import shelves
from modalign.types import DECODED, Batch, MediaBatch, TokenSet

NAME = "feature_cache"  # of the default folder, and of the record in a manifest
Record = dict[str, Any]

log = logging.getLogger(__name__)


def feature_cache(
    settings: Settings, stage: StageSettings, data: CurriculumData, manifest: Manifest,
    write: Callable[[Manifest], None], ranks: Ranks = ALONE,
) -> list[pl.Callback]:  # fmt: skip
    """The callback that keeps outputs, where it is asked for and the stage has paths; its record is the manifest's."""
    if settings.data.feature_cache == "off" or stage.backbone is not None:
        return []

    def tell(record: Record) -> None:
        manifest.extra[NAME] = record
        write(manifest)

    return [FeatureCache(settings, data, manifest.extra.get(NAME), tell, ranks)]


def kept_choice(earlier: Manifest | None) -> dict[str, Record]:
    """What an earlier sitting of a run has recorded: a choice made by timing is made once."""
    return {NAME: earlier.extra[NAME]} if earlier is not None and NAME in earlier.extra else {}


class Keeper:
    """Hears from a model what its frozen parts made of a slice, and keeps it when the next slice comes."""

    def __init__(self, shelves: dict[str, Shelf]) -> None:
        self.shelves = shelves
        self._waiting: list[tuple[Shelf, tuple[str | None, ...], Tensor, Any]] = []

    def __call__(self, modality: str, reached: str, tokens: TokenSet, media: MediaBatch) -> None:
        """Take the outputs that a shelf is for; nothing waits for a GPU here."""
        shelf = self.shelves.get(modality)
        if shelf is None or shelf.reached != reached:
            return
        values, copied = tokens.values.detach(), None
        if values.device.type == "cuda":
            host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            host.copy_(values, non_blocking=True)
            copied = torch.cuda.Event()
            copied.record()
            values = host
        self._waiting.append((shelf, media.kept_as, values, copied))

    def write(self) -> None:
        """Keep what waits."""
        waiting, self._waiting = self._waiting, []
        for shelf, names, values, copied in waiting:
            if copied is not None:
                copied.synchronize()
            shelf.keep(names, values)


class FeatureCache(pl.Callback):
    """Decides when training begins, by recipe, whether outputs are kept; then reads and fills the store.

    `earlier` is what the run has recorded in an earlier sitting, whose choice is kept; `tell` writes the record down.
    """

    def __init__(
        self, settings: Settings, data: CurriculumData, earlier: Record | None, tell: Callable[[Record], None],
        ranks: Ranks = ALONE,
    ) -> None:  # fmt: skip
        self.settings, self.data, self.tell, self.ranks = settings, data, tell, ranks
        self.setting = settings.data.feature_cache
        self.earlier = earlier if earlier and earlier.get("setting") == self.setting else None
        self.folder = Path(settings.data.feature_cache_folder or Path(settings.paths.data) / NAME)
        self.record: Record = {}
        self.keeper = Keeper({})
        self._samples = {"read": 0, "computed": 0}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """The model is on its device and its precision is known, no sample has been read yet."""
        randomness = capture_randomness()
        with trainer.precision_plugin.train_step_context():
            self.record = {"setting": self.setting, "folder": str(self.folder), **self._begin(trainer, pl_module)}
        restore_randomness(randomness)
        self.tell(self.record)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Batch, batch_idx: int) -> None:
        """Write what the slice before has brought, and count."""
        self.keeper.write()
        for media in batch.media.values():
            self._samples["computed" if media.reached == DECODED else "read"] += len(media.values)

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Write the rest; how many media of this sitting were read, and how many computed."""
        self.keeper.write()
        pl_module.model.keep = None
        self.record["samples"] = self._samples
        self.tell(self.record)

    def _begin(self, trainer: pl.Trainer, module: Any) -> Record:
        if module.usage is not None:
            return {"live": "the model is sharded: all processes have to compute the same parts"}
        if self.settings.data.reader != "indexed":
            return {"live": "samples are streamed: looking at some before training would change those that it reads"}
        model, device, rank = module.model, module.device, trainer.global_rank
        rows = self.data.slice_size // trainer.world_size
        store = FeatureStore(self.folder, round(self.settings.data.feature_cache_gb * 1e9))
        named = dict.fromkeys(m for source in self.data.sources.values() for m in source.recipe.media)
        found = shelves(self.settings, model, tuple(named), rows, device, store)
        reasons = dict.fromkeys(named, "something that trains lies on its way")
        for modality in list(found):
            reasons[modality] = self._reason(model, modality, found[modality], rows, rank, device) or ""
        # A process whose kernels keep bits otherwise than the others' decides for all.
        for others in self.ranks.gather(reasons):
            reasons |= {modality: reason for modality, reason in others.items() if reason}
        kept = {m: shelf for m, shelf in found.items() if not reasons[m]}
        recipes = {
            name: self._recipe(
                name, source, {m: kept[m] for m in source.recipe.media if m in kept}, model, device, rows
            )
            for name, source in self.data.sources.items()
        }
        self.keeper.shelves = kept
        model.keep = self.keeper
        return {"outputs": {m: s.reached for m, s in kept.items()}, "live": _told(reasons), "recipes": recipes}

    def _reason(
        self, model: AlignedModel, modality: str, shelf: Shelf, rows: int, rank: int, device: torch.device
    ) -> str | None:
        """Why a modality is computed live, judged by two slices of the first recipe that has it."""
        source = next(s for s in self.data.sources.values() if modality in s.recipe.media)
        source.shelves = {modality: shelf}
        samples = usable(source, self.data.collator, 2 * rows, 2 * rank * rows)
        source.shelves = {}
        if len(samples) < 2 * rows:
            return f"no two slices of usable samples in {source.recipe.name}"
        batches = [self.data.collator(part) for part in (samples[:rows], samples[rows:])]
        return why_not(model, modality, shelf, batches, device)

    def _recipe(
        self, name: str, source: Source, kept: dict[str, Shelf], model: AlignedModel, device: torch.device, rows: int
    ) -> Record:
        """Give a recipe its shelves where they are wanted, and say why, in plain values."""
        source.shelves = kept
        if not kept:
            return {"use": False}
        if self.setting == "on":
            return {"use": True}
        chosen = self.ranks.of_first(lambda: self._earlier(name) or self._choice(name, source, model, device, rows))
        if not chosen["use"]:
            source.shelves = {}
        return chosen

    def _earlier(self, name: str) -> Record | None:
        return (self.earlier or {}).get("recipes", {}).get(name)

    def _choice(self, name: str, source: Source, model: AlignedModel, device: torch.device, rows: int) -> Record:
        """Measured both ways; a recipe that the bound would drop before it is read again is not kept."""
        count = getattr(source.stream, "n", len(source))
        passes = self.data.consumed(self.data.total_steps)[name] / count
        trial = measure(model, source, self.data.collator, rows, 0, device, passes)
        bound, wanted = self.settings.data.feature_cache_gb, trial.sample_bytes * min(count, passes * count) / 1e9
        told = {"measured": trial.to_dict(), "gb": float(f"{wanted:.3g}")}
        if wanted > bound:
            return {"use": False, "why": f"{wanted:.3g} GB do not fit into feature_cache_gb={bound:g}", **told}
        if not trial.whole:
            return {"use": False, "why": "not all of what it decodes can be kept, and a slice is read whole", **told}
        why = f"{1e3 * trial.live_s:.4g} ms a slice live, {1e3 * trial.kept_s:.4g} ms kept, {passes:.2g} passes"
        log.info("recipe %s: outputs of frozen parts are %s (%s)", name, "kept" if trial.pays else "not kept", why)
        return {"use": trial.pays, "why": why, **told}


def _told(reasons: dict[str, str]) -> dict[str, str]:
    return {modality: reason for modality, reason in reasons.items() if reason}
