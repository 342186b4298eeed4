"""A finished run on a benchmark: its items asked batch by batch, scored, written as the official scorer reads them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modalign.data.benchmark import CAPTION_METRICS, Benchmark
from modalign.data.dataset import Source
from modalign.data.recipes import Recipe
from modalign.data.templates import CaptionTemplate
from modalign.errors import BadSample, ModalignError, unknown_name
from modalign.evaluation.benchmark_scores import Answered, answered, benchmark_scores, worded
from modalign.evaluation.evaluate import Generator
from modalign.evaluation.items import Item
from modalign.evaluation.predictions import prediction_files
from modalign.evaluation.scores import Score
from modalign.runs.files import write_atomic
from modalign.stages.load_run import LoadedRun
from modalign.stages.measure import Measure
from modalign.stages.sources import SourceBook

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Benchmarked:
    """What came of one benchmark: scores in the order of its metrics, and what they stand on."""

    name: str
    scores: tuple[Score, ...]
    answers: tuple[Answered, ...]
    available: int
    bad: int


def check_benchmark(recipe: Recipe, run: LoadedRun) -> Benchmark:
    """The recipe's benchmark; raises ModalignError where it has none or the run lacks what it asks about."""
    benchmark = benchmark_of(recipe)
    for modality in recipe.media:
        if modality not in run.spec.modalities:
            raise unknown_name("modality", modality, run.spec.modalities, f"run {run.manifest.name}, for {recipe.name}")
    if not _chats(run) and not set(benchmark.metrics) <= set(CAPTION_METRICS):
        raise ModalignError(
            f"run {run.manifest.name} is of stage {run.spec.stage}, which learns captions and no questions: "
            f"{recipe.name} asks questions; name a run of instruct"
        )
    return benchmark


def benchmark_of(recipe: Recipe) -> Benchmark:
    """How a recipe is measured; raises ModalignError where it does not say."""
    if recipe.benchmark is None:
        raise ModalignError(f"recipe {recipe.name} is no benchmark: it has no section `benchmark` (modalign benchmark)")
    return recipe.benchmark


def run_benchmark(
    run: LoadedRun,
    sources: SourceBook,
    recipe: Recipe,
    num_items: int | None = None,
    tokenisation: str = "simple",
    progress: Progress | None = None,
) -> Benchmarked:
    """Ask the run all items of a benchmark (or the first `num_items`) in shard order, greedily, and score them."""
    benchmark = check_benchmark(recipe, run)
    source = sources.source(recipe.name, benchmark.split, CaptionTemplate())
    generate = dataclasses.replace(
        Measure(sources).generator(run.spec.stage, run.model), max_new_tokens=benchmark.max_new_tokens
    )
    wanted = len(source) if num_items is None else min(num_items, len(source))
    answers: list[Answered] = []
    bad = 0
    for batch, holes in _batches(source, wanted, generate.batch_size, sources, benchmark.split):
        answers += _ask(generate, batch, benchmark, _chats(run))
        bad += holes
        if progress is not None:
            progress(len(answers), bad)
    sources.holes.check({f"{recipe.name}, {benchmark.split}": wanted}, ended=True)
    label = "+".join(recipe.media)
    scores = benchmark_scores(benchmark, answers, recipe.name, label, tokenisation)
    return Benchmarked(recipe.name, tuple(scores), tuple(answers), len(source), bad)


def write_benchmark(
    folder: Path, found: Benchmarked, benchmark: Benchmark, run: str, tokenisation: str
) -> dict[str, Path]:
    """Write results.json and the predictions below `folder`; file names to paths."""
    result: dict[str, Any] = {
        "benchmark": found.name, "run": run, "items": len(found.answers), "available": found.available,
        "bad_samples": found.bad, "prompt": benchmark.prompt, "tokenisation": tokenisation,
        "scores": [dataclasses.asdict(score) for score in found.scores],
        "published": {"model": "OneLLM-7B", "scores": benchmark.published, "source": benchmark.published_source},
        "official_scorer": benchmark.scorer, "note": benchmark.note,
    }  # fmt: skip
    files = prediction_files(benchmark.predictions, found.answers)
    files["results.json"] = (json.dumps(result, indent=1, allow_nan=False) + "\n").encode()
    written = {}
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, content)
        written[name] = path
    return written


def _chats(run: LoadedRun) -> bool:
    return run.settings.stages[run.spec.stage].template == "chat"


Pair = tuple[Item, dict[str, Any]]


def _batches(
    source: Source, wanted: int, size: int, sources: SourceBook, split: str
) -> Iterator[tuple[list[Pair], int]]:
    """Items with their records, so many at a time, and how many of them were bad: no more is held in memory."""
    for start in range(0, wanted, size):
        batch: list[Pair] = []
        bad = 0
        for index in range(start, min(start + size, wanted)):
            try:
                key, media, record = source.media(index)
            except BadSample as error:
                sources.holes.add(f"{source.recipe.name}, {split}", error.key, error.reason)
                bad += 1
                continue
            batch.append((Item(key, tuple(media), (), {}, (), {}), record))
        yield batch, bad


def _ask(generate: Generator, batch: list[Pair], benchmark: Benchmark, chats: bool) -> list[Answered]:
    questions = [worded(benchmark, record) for _, record in batch]
    texts = generate(
        [(item, question if chats else None) for (item, _), question in zip(batch, questions, strict=True)]
    )
    return [
        answered(item.key, record, question, text)
        for (item, record), question, text in zip(batch, questions, texts, strict=True)
    ]
