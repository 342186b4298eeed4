"""Probes on the samples of a run: which items, laid out as its stage lays them out, and where findings are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.random import Generator
from torch import nn

from modalign.data.collate import Collator
from modalign.data.templates import CaptionTemplate, ChatTemplate, Record, Template
from modalign.evaluation.items import load_samples
from modalign.evaluation.probes.findings import ModalityProbe, Probes, find_probes, scalars, write_probes
from modalign.evaluation.probes.probe import probe_modality
from modalign.evaluation.probes.routing import expert_distances, mean_distance
from modalign.runs.holes import Holes
from modalign.stages.sources import SourceBook, chat_template
from modalign.types import Batch, MediaSpan, Span

SPLITS = ("val", "test")  # the first that a recipe has


class Probing:
    """Probes modalities of one run's model on the same few samples of each, which are decoded once."""

    def __init__(
        self, sources: SourceBook, stage: str, collator: Collator, items: int, splits: Sequence[str] = SPLITS
    ) -> None:
        self.sources = sources
        self.stage = sources.settings.stages[stage]
        self.collator = collator
        self.items = items
        self.splits = tuple(splits)
        self._batches: dict[str, Batch | None] = {}

    def batch(self, modality: str) -> Batch | None:
        """Samples of the modality's own recipes; None where there are fewer than two."""
        if modality not in self._batches:
            self._batches[modality] = self._read(modality)
        return self._batches[modality]

    def probe(
        self, model: Any, modality: str, step: int, candidates: int, parts: Mapping[str, Sequence[nn.Parameter]] | None
    ) -> ModalityProbe | None:
        """What is found of one modality; None where it has no samples."""
        batch = self.batch(modality)
        if batch is None:
            return None
        moved = batch.to(next(model.parameters()).device)
        return probe_modality(model, moved, modality, step, candidates, parts)

    def _read(self, modality: str) -> Batch | None:
        settings, book = self.sources.settings, self.sources.book
        names = book.alignment_recipes(modality)
        splits = {name: next((s for s in self.splits if book.num_samples(name, s)), None) for name in names}
        there = [(name, split) for name, split in splits.items() if split is not None]
        samples = []
        for name, split in there:
            source = self.sources.source(name, split, self._template())
            holes, count = Holes(settings.data.max_bad_share), -(-self.items // len(there))
            samples += load_samples(source, count, split, holes, self.collator.checked)
        return self.collator(samples[: self.items], names[0]) if len(samples) > 1 else None

    def _template(self) -> Template:
        return CaptionQuestion(chat_template(self.stage)) if self.stage.template == "chat" else CaptionTemplate()


class CaptionQuestion:
    """A record's caption as the answer to the first prompt; its conversation, where it has no caption."""

    def __init__(self, chat: ChatTemplate) -> None:
        self.chat = chat

    def needs_prompts(self, task: str) -> bool:
        """Where records hold captions."""
        return task == "caption"

    def spans(
        self, media: Sequence[MediaSpan], record: Record, prompts: Sequence[str], rng: Generator | None
    ) -> tuple[Span, ...]:
        """The chat's layout of one of the two."""
        captioned = bool(record.get("caption") or record.get("captions")) and bool(prompts)
        return self.chat.conversation_spans(media, record, prompts[0] if captioned else None)


class TrainingProbes:
    """What the callback asks at intervals: numbers for metrics.csv, and probes.json up to date in the run's folder."""

    def __init__(self, probing: Probing, folder: Path, candidates: int, writes: bool) -> None:
        self.probing = probing
        self.folder = Path(folder)
        self.candidates = candidates
        self.writes = writes

    def __call__(self, module: Any, modality: str, step: int) -> dict[str, float]:
        """Probe one modality, and what the last step's gradients and the experts are like. Every process calls this."""
        values = {f"probe/gradient/{part}": norm for part, norm in gradient_lengths(module).items()}
        distance = expert_distances(module.model)
        values |= {f"probe/expert_distance/{name}": mean_distance(rows) for name, rows in distance.items()}
        found = self.probing.probe(module.model, modality, step, self.candidates, None)
        if found is None:
            return values
        if self.writes:
            known = find_probes(self.folder) or Probes(self.folder.name, self.probing.splits[0])
            # After a restart what was found in steps that are done again is not known yet.
            earlier = {name: probe for name, probe in known.modalities.items() if probe.step <= step}
            write_probes(self.folder, Probes(known.run, known.split, earlier | {modality: found}, distance))
        return values | scalars(modality, found)


def gradient_lengths(module: Any) -> dict[str, float]:
    """The norm by part of the last optimizer step's gradient, before clipping; of shards all processes have a share."""
    latest = module.proof.latest
    if not latest:
        return {}
    none = next(iter(latest.values())).new_zeros(())
    names = list(module.proof.groups) if module.usage is not None else list(latest)
    squares = torch.stack([latest[name].square().sum() if name in latest else none for name in names])
    if module.usage is not None:
        squares = module.ranks.add(squares)
    return dict(zip(names, squares.sqrt().tolist(), strict=True))
