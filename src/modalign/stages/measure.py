"""What is measured after a phase: every modality so far on fixed items, pairs, plain text, router, experts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch

from modalign.config.specs import RunSpec
from modalign.data.collate import Collator
from modalign.data.templates import CaptionTemplate, TextTemplate
from modalign.evaluation.attributes import attribute_hits
from modalign.evaluation.evaluate import Asked, Generator, score_answers, score_captions, text_loss
from modalign.evaluation.items import Item, load_items, load_samples, vocabulary
from modalign.evaluation.scores import Results, Score, ShownSample, TextLoss, results_bytes
from modalign.runs.files import write_atomic
from modalign.runs.folder import RunFolder
from modalign.stages.held_out import measured_splits
from modalign.stages.kept_features import ItemFeatures, KeptFeatures
from modalign.stages.sources import SourceBook, chat_template
from modalign.types import MediaBatch, Sample, Span


class Measure:
    """Evaluates the runs of one command; items are decoded once and kept."""

    def __init__(self, sources: SourceBook) -> None:
        self.sources = sources
        self.settings = sources.settings
        self._items: dict[tuple[str, str], list[Item]] = {}
        self._kinds: dict[str, dict[str, list[str]]] = {}
        self._features = KeptFeatures(self.settings.evaluation.features_mb * 2**20)

    def __call__(self, spec: RunSpec, model: Any, folder: RunFolder, before: tuple[Score, ...] = ()) -> Results:
        """Measure the model of a finished training and write results.json and the samples it shows.

        `before` is what `before` measured of its new modalities.
        """
        scores: list[Score] = []
        asked: list[tuple[str, str, Asked]] = []
        generate = self.generator(spec.stage, model)
        for modality in spec.modalities:
            found, shown = self.modality(spec, generate, modality)
            scores += found
            asked += shown
        if self.settings.stages[spec.stage].template == "chat":
            for name in self.settings.data.pairs:
                if set(self.sources.book.media(name)) <= set(spec.modalities):
                    found, shown = self._pairs(generate, name)
                    scores += found
                    asked += shown
        router, distance = self._router(spec, model)
        results = Results(
            (folder.manifest() or spec).name,  # a folder may have been renamed
            spec.steps,
            tuple(scores),
            self._text_loss(model),
            router,
            distance,
            tuple(self._show(folder, modality, split, one) for modality, split, one in asked),
            before,
        )
        write_atomic(folder.results_file, results_bytes(results))
        return results

    def before(self, spec: RunSpec, model: Any) -> tuple[Score, ...]:
        """Captions of the modalities that a phase is about to add to others; nothing where there are no others."""
        number, split = self.settings.evaluation.forward_items, self.settings.evaluation.splits[0]
        scores: list[Score] = []
        for modality in spec.new if number and spec.seen else ():
            recipes = self.sources.book.alignment_recipes(modality)
            items = [item for name in recipes for item in self.items(name, split)[:number]]
            if items:
                kinds = vocabulary([items])
                generate = self.generator(spec.stage, model)
                scores += score_captions(generate, items, None, modality, split, kinds)[0]
        return tuple(scores)

    def generator(self, stage: str, model: Any) -> Generator:
        """Texts from the model, laid out as the stage laid out its training samples."""
        settings = self.settings.stages[stage]
        chat = chat_template(settings) if settings.template == "chat" else None

        def prompt(item: Item, question: str | None) -> tuple[Span, ...]:
            return item.media if chat is None or question is None else chat.prompt_spans(item.media, question)

        tokenizer = model.text_tokenizer
        collate = Collator(tokenizer.encode, tokenizer.bos_id, tokenizer.eos_id, require_targets=False)
        evaluation = self.settings.evaluation
        stop = (settings.chat.stop,) if chat else ()
        features = ItemFeatures(model, self._features) if evaluation.features_mb else None
        return Generator(model, collate, prompt, evaluation.batch_size, evaluation.max_new_tokens, stop, features)

    def items(self, name: str, split: str, num_items: int | None = None) -> list[Item]:
        """The fixed items of a recipe's split; none where it has no such split."""
        if (name, split) not in self._items:
            if not self.sources.book.num_samples(name, split):
                return []
            source = self.sources.source(name, split, CaptionTemplate())
            self._items[name, split] = load_items(
                source, num_items or self.settings.evaluation.num_items, split, self.sources.holes
            )
        return self._items[name, split]

    def modality(
        self, spec: RunSpec, generate: Generator, modality: str
    ) -> tuple[list[Score], list[tuple[str, str, Asked]]]:
        """Captions, and after a chat stage answers too, of one modality on every split."""
        chat = self.settings.stages[spec.stage].template == "chat"
        question = self.settings.modalities[modality].prompts[0] if chat else None
        recipes = self.sources.book.alignment_recipes(modality)
        splits = measured_splits(self.settings, spec, modality)
        kinds = vocabulary(self.items(name, split) for name in recipes for split in splits)
        self._kinds[modality] = kinds
        scores: list[Score] = []
        shown: list[tuple[str, str, Asked]] = []
        for split in splits:
            items = [item for name in recipes for item in self.items(name, split)]
            if not items:
                continue
            found, asked = score_captions(generate, items, question, modality, split, kinds)
            scores += found
            shown += [(modality, split, one) for one in self._first(asked, split)]
            if chat:
                items = [item for name in self.asked_of(modality, split) for item in self.items(name, split)]
                found, asked = score_answers(generate, items, modality, split)
                scores += found
                shown += [(modality, split, one) for one in self._first(asked, split)]
        return scores, shown

    def asked_of(self, modality: str, split: str) -> list[str]:
        """The recipes whose questions a modality is asked: those of instruction tuning that carry nothing else and have
        the split, or where none has, those of its captions."""
        book = self.sources.book
        tuned = [name for name in self.settings.data.instruct if set(book.media(name)) == {modality}]
        known = set(book.alignment_recipes(modality))
        there = [name for name in tuned if name in known or book.is_there(name, split)]
        return [name for name in there if book.num_samples(name, split)] or list(book.alignment_recipes(modality))

    def _pairs(self, generate: Generator, name: str) -> tuple[list[Score], list[tuple[str, str, Asked]]]:
        label = "+".join(self.sources.book.media(name))
        scores: list[Score] = []
        shown: list[tuple[str, str, Asked]] = []
        for split in self.settings.evaluation.splits:
            found, asked = score_answers(generate, self.items(name, split), label, split, "pair")
            scores += found
            shown += [(label, split, one) for one in self._first(asked, split)]
        return scores, shown

    def _first(self, asked: Sequence[Asked], split: str) -> Sequence[Asked]:
        return asked[: self.settings.evaluation.num_shown] if split == self.settings.evaluation.splits[0] else ()

    def _text_loss(self, model: Any) -> TextLoss | None:
        name = self.settings.data.text_loss
        if name is None or not self.sources.book.num_samples(name, "test"):
            return None
        source = self.sources.source(name, "test", TextTemplate())
        tokenizer = model.text_tokenizer
        collate = Collator(tokenizer.encode, tokenizer.bos_id, tokenizer.eos_id)
        samples = load_samples(source, self.settings.evaluation.num_items, "test", self.sources.holes)
        size = self.settings.evaluation.batch_size
        return text_loss(model, (collate(samples[i : i + size]) for i in range(0, len(samples), size)))

    @torch.no_grad()
    def _router(self, spec: RunSpec, model: Any) -> tuple[dict[str, tuple[float, ...]], tuple[tuple[float, ...], ...]]:
        """Mean router weights of each modality over items and queries, and the distances between experts."""
        device = next(model.parameters()).device
        weights: dict[str, tuple[float, ...]] = {}
        distance: tuple[tuple[float, ...], ...] = ()
        for modality in spec.modalities:
            projector = model.projectors[model.paths[modality].projector]
            if getattr(projector, "num_experts", 1) < 2:
                continue
            recipes, split = self.sources.book.alignment_recipes(modality), self.settings.evaluation.splits[0]
            items = [item for name in recipes for item in self.items(name, split)][:32]
            if not items:
                continue
            generate = self.generator(spec.stage, model)
            batch = generate.collate([Sample(i.key, "", i.media) for i in items]).to(device)
            media: MediaBatch = batch.media[modality]
            found = projector.router_weights(model.features(modality, media), modality)
            weights[modality] = tuple(float(v) for v in found.mean(dim=(0, 1)))
            distance = tuple(tuple(float(v) for v in row) for row in projector.expert_distance())
        return weights, distance

    def _show(self, folder: RunFolder, modality: str, split: str, asked: Asked) -> ShownSample:
        paths = {}
        for sense, (extension, data) in asked.item.files.items():
            # Keys repeat from recipe to recipe, and a key may have folders in it.
            known = f"{quote(asked.item.key, safe='')}-{hashlib.sha256(data).hexdigest()[:8]}"
            file = Path("samples") / f"{split}-{known}-{sense}.{extension.rpartition('.')[2]}"
            if not (folder.path / file).exists():
                (folder.path / file).parent.mkdir(exist_ok=True)
                write_atomic(folder.path / file, data)
            paths[sense] = str(file)
        declared = {sense: self.settings.modalities[sense].display for sense in paths}
        return ShownSample(
            modality,
            split,
            asked.item.key,
            paths,
            asked.references[0] if asked.references else "",
            asked.generated,
            asked.question,
            self._right(modality, asked),
            {sense: str(shown["kind"]) for sense, shown in declared.items() if "kind" in shown},
            {sense: {k: v for k, v in shown.items() if k != "kind"} for sense, shown in declared.items()},
        )

    def _right(self, modality: str, asked: Asked) -> bool | None:
        """A caption is right where it names every attribute; an answer is left to the report."""
        if asked.references != asked.item.references or not asked.item.attributes:
            return None
        return all(attribute_hits(asked.generated, asked.item.attributes, self._kinds[modality]).values())
