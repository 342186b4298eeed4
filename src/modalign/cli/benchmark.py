"""`modalign benchmark RUN NAME …`: a finished run on published benchmarks, beside the score that was published."""

from __future__ import annotations

import shutil
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modalign.cli.environment import prepare_environment
from modalign.cli.parser import VerbParser, quoted, read_settings, settings_only
from modalign.cli.run_settings import changed_settings
from modalign.cli.terminal import count, making_progress, print_table, say, working
from modalign.config.recipes import RecipeBook
from modalign.data.benchmark import Benchmark
from modalign.data.manifest import MANIFEST_NAME
from modalign.data.recipes import Recipe
from modalign.errors import ModalignError, unknown_name
from modalign.runs.finished import answering_run

if TYPE_CHECKING:
    from modalign.config.schema import Settings
    from modalign.evaluation.scores import Score
    from modalign.stages.benchmark import Benchmarked

SUMMARY = """Ask a finished run the items of published benchmarks, score the answers, write them as the official scorer
reads them, and print OneLLM's published score beside. Without a run: list the benchmarks."""
EXAMPLES = (
    "modalign benchmark",
    "modalign benchmark 'paths.recipes=[my_recipes]'",
    "modalign shards eval_gqa make.folder=/data/gqa",
    "modalign benchmark runs/instruct-image-1a2b3c4d gqa vqav2",
    "modalign benchmark runs/instruct-image-1a2b3c4d nocaps --items 500 --out scores",
)
PREFIX = "eval_"


def run(arguments: Sequence[str]) -> int:
    """List, or measure and print."""
    options = _parser().parse(arguments)
    if options.run is None or "=" in str(options.run):
        options.settings = [word for word in (str(options.run or ""), *options.words) if word]
        return _list(options)
    names = [word for word in options.words if "=" not in word]
    if not names:
        raise ModalignError("name at least one benchmark; `modalign benchmark` lists them")
    if options.items is not None and options.items < 1:
        raise ModalignError(f"--items must be at least 1, not {options.items}")
    manifest = answering_run(options.run)
    overrides = settings_only([word for word in options.words if "=" in word])
    if options.data is not None:
        overrides.append(f"paths.data={quoted(options.data)}")
    settings = changed_settings(manifest, overrides)
    book = RecipeBook(settings)
    recipes = [book.get(_recipe_name(name, book)) for name in names]
    for recipe in recipes:
        _require_shards(recipe, book)
    tokenisation = _tokenisation(options.tokenisation)
    rows: list[list[str]] = []
    notes: list[str] = []
    for recipe, found, folder in _measured(options, settings, book, recipes, tokenisation):
        benchmark = _benchmark(recipe)
        rows += [_row(recipe, benchmark, score) for score in found.scores]
        notes += _notes(recipe, benchmark, found)
        notes.append(f"{_short(recipe)}: {folder}, for {benchmark.scorer}")
    print_table(("benchmark", "split", "metric", "value", "95 % interval", "OneLLM-7B", "items"), rows, (3, 4, 5, 6))
    for text in dict.fromkeys(notes):
        say(text)
    return 0


def _measured(
    options: Namespace, settings: Settings, book: RecipeBook, recipes: Sequence[Recipe], tokenisation: str
) -> Iterator[tuple[Recipe, Benchmarked, Path]]:
    """Each benchmark's outcome and the folder it is written to."""
    prepare_environment()
    from modalign.runs.folder import RunFolder
    from modalign.stages.benchmark import check_benchmark, run_benchmark, write_benchmark
    from modalign.stages.engine import set_threads
    from modalign.stages.load_run import load_run
    from modalign.stages.notices import quiet_libraries
    from modalign.stages.sources import SourceBook

    quiet_libraries()
    set_threads(settings.trainer.threads, 0)
    with working(lambda: f"loading {options.run}"):
        loaded = load_run(options.run, settings)
    for recipe in recipes:
        check_benchmark(recipe, loaded)
    target = RunFolder(options.run if options.out is None else options.out / options.run.resolve().name)
    with target.lock():
        for recipe in recipes:
            benchmark = _benchmark(recipe)
            total = options.items or book.num_samples(recipe.name, benchmark.split)
            with making_progress(_short(recipe), total) as note:
                found = run_benchmark(loaded, SourceBook(settings, book), recipe, options.items, tokenisation, note)
            folder = target.path / "benchmarks" / _short(recipe)
            write_benchmark(folder, found, benchmark, loaded.manifest.name, tokenisation)
            yield recipe, found, folder


def _parser() -> VerbParser:
    parser = VerbParser("benchmark", SUMMARY, EXAMPLES)
    parser.add_argument("run", metavar="RUN", type=Path, nargs="?")
    parser.add_argument("words", nargs="*", default=[], metavar="NAME", help="benchmarks; key=value changes a setting")
    parser.add_argument("--items", type=int, metavar="N", help="only the first N items of each")
    parser.add_argument("--out", metavar="DIR", type=Path, help="write to DIR/<run's name>, leave the run as it is")
    parser.add_argument(
        "--tokenisation", choices=("auto", "ptb", "simple"), default="auto",
        help="of captions: COCO's, which needs Java, or ours (default: COCO's where Java is)",
    )  # fmt: skip
    parser.add_settings(words=False)
    return parser


def _list(options: Namespace) -> int:
    settings, _ = read_settings(options)
    book = RecipeBook(settings)
    rows = []
    for name in sorted(book.paths):
        recipe = book.get(name)
        if (benchmark := recipe.benchmark) is not None:
            metric = benchmark.metrics[0]
            there = "yes" if _has_shards(recipe, book) else "no"
            media = "+".join(recipe.media)
            rows.append(
                [_short(recipe), media, benchmark.split, metric, _published(benchmark, metric), there, benchmark.prompt]
            )
    print_table(("benchmark", "modality", "split", "metric", "OneLLM-7B", "shards", "prompt"), rows, numbers=(4,))
    say("\n`modalign shards RECIPE make.folder=…` makes a benchmark's shards; its recipe is eval_<name>, or <name>")
    return 0


def _short(recipe: Recipe) -> str:
    return recipe.name.removeprefix(PREFIX)


def _recipe_name(name: str, book: RecipeBook) -> str:
    """The recipe of a benchmark, by its short or its full name."""
    if PREFIX + name in book.paths:
        return PREFIX + name
    if name not in book.paths or book.get(name).benchmark is None:
        raise unknown_name("benchmark", name, [_short(r) for r in map(book.get, book.paths) if r.benchmark is not None])
    return name


def _benchmark(recipe: Recipe) -> Benchmark:
    assert recipe.benchmark is not None
    return recipe.benchmark


def _has_shards(recipe: Recipe, book: RecipeBook) -> bool:
    return (book.folder(recipe.name) / _benchmark(recipe).split / MANIFEST_NAME).is_file()


def _require_shards(recipe: Recipe, book: RecipeBook) -> None:
    if not _has_shards(recipe, book):
        split = _benchmark(recipe).split
        raise ModalignError(
            f"benchmark {_short(recipe)}: no shards at {book.folder(recipe.name) / split}: get the data from "
            f"{recipe.source} and run `modalign shards {recipe.name} make.folder=…`"
        )


def _tokenisation(wanted: str) -> str:
    if wanted == "auto":
        return "ptb" if shutil.which("java") else "simple"
    if wanted == "ptb" and shutil.which("java") is None:
        raise ModalignError("--tokenisation ptb needs Java and no 'java' is on the path: install one or use 'simple'")
    return wanted


def _row(recipe: Recipe, benchmark: Benchmark, score: Score) -> list[str]:
    scale = 1 if score.metric == "mme" else 100
    value, low, high = (f"{scale * number:.1f}" for number in (score.value, score.low, score.high))
    published = _published(benchmark, score.metric)
    return [_short(recipe), score.split, score.metric, value, f"{low} … {high}", published, count(score.n)]


def _published(benchmark: Benchmark, metric: str) -> str:
    number = benchmark.published.get(metric)
    return "" if number is None else f"{number:.1f}"


def _notes(recipe: Recipe, benchmark: Benchmark, found: Benchmarked) -> list[str]:
    """What a reader must know to put the numbers beside others'."""
    name, items, known = _short(recipe), len(found.answers), {score.metric for score in found.scores}
    notes = [f"{name}: {benchmark.note}"] if benchmark.note else []
    notes += [f"{name}: {score.note}" for score in found.scores if score.note]
    if items + found.bad < found.available:
        notes.append(f"{name}: {count(items)} of {count(found.available)} items, no match for published numbers")
    if found.bad:
        notes.append(f"{name}: {count(found.bad)} bad samples were left out")
    elsewhere = {metric: number for metric, number in benchmark.published.items() if number and metric not in known}
    if elsewhere:
        told = ", ".join(f"{metric} {number}" for metric, number in elsewhere.items())
        notes.append(f"{name}: published and not measured here: {told}")
    if benchmark.published_source:
        notes.append(f"{name}: OneLLM's score {benchmark.published_source}")
    return notes
