"""`modalign evaluate RUN`: measure a finished run again, on the same fixed items or on others."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from shlex import quote

from modalign.cli.environment import prepare_environment
from modalign.cli.parser import VerbParser, quoted, settings_only
from modalign.cli.run_settings import changed_settings
from modalign.cli.terminal import print_table, say, working
from modalign.config.meaning import measuring_meaning
from modalign.config.schema import Settings
from modalign.errors import ModalignError
from modalign.evaluation.scores import RESULTS_FILE, Results, Score, read_results
from modalign.runs.finished import answering_run
from modalign.runs.manifest import Manifest, write_manifest
from modalign.runs.record import curricula_of

SUMMARY = """Measure a finished run again and write its results.json and report. With --out the run is left as it is and
the results go below another folder; that is also how a run is measured on another world."""
EXAMPLES = (
    "modalign evaluate runs/align-audio-1a2b3c4d evaluation.num_items=640",
    "modalign evaluate runs/align-audio-1a2b3c4d --world hard --out hard_results",
)
HEADLINES = ("attribute_accuracy", "exact_match")


def run(arguments: Sequence[str]) -> int:
    """Measure, write, print the headline scores."""
    options = _parser().parse(arguments)
    manifest = answering_run(options.run)
    settings = _settings(options, manifest)
    prepare_environment()
    from modalign.evaluation.report.run_report import write_run_report
    from modalign.runs.folder import RunFolder
    from modalign.stages.engine import set_threads
    from modalign.stages.load_run import load_run, measured_sources
    from modalign.stages.measure import Measure
    from modalign.stages.notices import quiet_libraries

    quiet_libraries()
    set_threads(settings.trainer.threads, 0)
    with working(lambda: f"loading {manifest.name}"):
        loaded = load_run(options.run, settings)
    sources = measured_sources(loaded)
    target = RunFolder(options.run if options.out is None else options.out / options.run.resolve().name)
    with target.lock():
        with working(lambda: f"measuring {manifest.name}"):
            results = Measure(sources)(loaded.spec, loaded.model, target, _before(options.run))
        if options.out is None:
            manifest = answering_run(options.run)  # another command may have measured it while this one loaded
            manifest.extra.setdefault("evaluated_again", []).append(
                {"command": ["modalign", "evaluate", *arguments], "evaluation": settings.evaluation.model_dump()}
            )
            manifest.extra["measuring"] = measuring_meaning(settings)
            write_manifest(options.run, manifest)
            write_run_report(options.run)
    tell(results, options.all)
    say(f"results: {target.path / RESULTS_FILE}")
    if options.out is None:
        say(f"report: {target.report_file}")
        for folder in curricula_of(options.run):
            if (report := RunFolder(folder).report_file).is_file():
                say(f"older than these results: {report}; `modalign report {quote(str(folder))}` renews it")
    return 0


def _before(folder: Path) -> tuple[Score, ...]:
    """What was measured before the run's first step: no later measurement can."""
    return read_results(folder).before if (folder / RESULTS_FILE).is_file() else ()


def _parser() -> VerbParser:
    parser = VerbParser("evaluate", SUMMARY, EXAMPLES)
    parser.add_argument("run", metavar="RUN", type=Path)
    parser.add_argument("--out", metavar="DIR", type=Path, help="write to DIR/<run's name>, leave the run as it is")
    parser.add_argument("--world", metavar="NAME", help="measure on another world (needs --out)")
    parser.add_argument("--data", metavar="DIR", help="folder of shards (paths.data)")
    parser.add_argument("--all", action="store_true", help="print CIDEr, BLEU-4 and ROUGE-L too")
    parser.add_argument("settings", nargs="*", default=[], metavar="key=value", help="evaluation.…, trainer.…, data.…")
    return parser


def _settings(options: argparse.Namespace, manifest: Manifest) -> Settings:
    overrides = settings_only(options.settings)
    if options.data is not None:
        overrides.append(f"paths.data={quoted(options.data)}")
    if options.world is not None and options.out is None:
        raise ModalignError("--world measures something else than the run's own results: add --out DIR")
    return changed_settings(manifest, overrides, options.world)


def tell(results: Results, everything: bool) -> None:
    """Print the scores, each with its interval and chance."""
    shown = [score for score in results.scores if everything or score.metric in HEADLINES]
    header = ("modality", "task", "split", "metric", "value", "95 % interval", "chance", "items")
    print_table(header, [_row(score) for score in shown], numbers=(4, 5, 6, 7))
    if results.text_loss is not None:
        say(f"plain text: {results.text_loss.value:.4f} nats a token over {results.text_loss.tokens} tokens")


def _row(score: Score) -> list[str]:
    share = score.metric != "cider"
    value, low, high = (f"{100 * v:.1f}" if share else f"{v:.2f}" for v in (score.value, score.low, score.high))
    chance = "" if score.chance is None else f"{100 * score.chance:.1f}"
    return [
        score.modality, score.task, score.split, score.metric, value, f"{low} … {high}", chance, str(score.n)
    ]  # fmt: skip
