"""`modalign plan …`: the runs that a training command would make and what each will cost, before anything is made."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modalign.cli.environment import nothing_collected, prepare_environment
from modalign.cli.parser import VerbParser, read_settings, setting_words, settings_only
from modalign.cli.terminal import count, print_table, say
from modalign.config.places import shipped_runs
from modalign.config.planning import PlanningBook
from modalign.config.schema import Settings
from modalign.config.shipped import could_be_shipped
from modalign.config.specs import Planner, RunSpec
from modalign.errors import ModalignError
from modalign.runs.finished import locate
from modalign.runs.folder import RunFolder

SUMMARY = """Print the runs that `python train.py` with the same settings would make or reuse, and for each run to be
made: samples, tokens, parameters, FLOPs, memory, checkpoints, hours on given hardware, and what is missing. Nothing is
made, no weights are read, and no GPU is needed."""
EXAMPLES = [
    "modalign plan stage=align modality=audio",
    "modalign plan curriculum=onellm --runs",
    "modalign plan trainer.precision=bf16-mixed --hardware h100 --devices 8 --json plan.json",
    "modalign plan --hardware h100 --peak-tflops 800 --utilisation 0.5",
]


def run(arguments: Sequence[str]) -> int:
    """Print the runs, then what each will cost."""
    options = _parser().parse(arguments)
    settings, _ = read_settings(options, _assumptions(options))
    book = PlanningBook(settings)
    specs = Planner(settings, book).plan()
    folders = {spec.identity: _folder(settings, spec) for spec in specs}
    open_runs = [spec for spec in specs if options.all or folders[spec.identity].status() != "finished"]
    print_runs(settings, book, specs, folders)
    if (told := could_be_shipped(settings, open_runs)) is not None:
        say(told)
    if options.runs or not (open_runs or options.json):
        return 0
    with nothing_collected():
        prepare_environment()
        from modalign.cli.plan_tables import print_plan
        from modalign.stages.forecast.plan import make_plan

        places = {key: folder.path for key, folder in folders.items()}
        plan = make_plan(settings, book, open_runs, places, setting_words(options))
        print_plan(plan)
    if options.json is not None:
        write_json(options.json, plan.to_dict())
    return 0


def _parser() -> VerbParser:
    parser = VerbParser("plan", SUMMARY, EXAMPLES)
    parser.add_settings()
    parser.add_argument("--runs", action="store_true", help="list the runs only, at once")
    parser.add_argument("--all", action="store_true", help="the cost of finished runs too")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write everything to a file as well")
    parser.add_argument("--hardware", metavar="NAME", help="a file of conf/hardware: cpu, a100, h100, h200")
    parser.add_argument("--devices", metavar="N", type=int, help="processes, one a device (trainer.devices)")
    parser.add_argument("--peak-tflops", metavar="X", type=float, help="peak of a device, dense, at your precision")
    parser.add_argument(
        "--utilisation", metavar="U", type=float, help="share of the peak that training reaches, 0 to 1"
    )
    return parser


def _assumptions(options: argparse.Namespace) -> list[str]:
    """The verb's own options as settings."""
    settings_only(options.settings)
    given = []
    if options.hardware is not None:
        given.append(f"hardware={options.hardware}")
    if options.devices is not None:
        given.append(f"trainer.devices={options.devices}")
    if options.peak_tflops is not None:
        peaks = ", ".join(f"{precision}: {options.peak_tflops}" for precision in ("32-true", "bf16-mixed"))
        given.append(f"plan.hardware.peak_tflops={{{peaks}}}")
    if options.utilisation is not None:
        given.append(f"plan.hardware.utilisation={options.utilisation}")
    return given


def _folder(settings: Settings, spec: RunSpec) -> RunFolder:
    return locate(Path(settings.paths.runs), spec, settings.fresh, shipped_runs())


def print_runs(settings: Settings, book: PlanningBook, specs: Sequence[RunSpec], folders: dict[str, RunFolder]) -> None:
    """One row a run."""
    rows = []
    for number, spec in enumerate(specs, 1):
        folder = folders[spec.identity]
        stage = spec.stage_settings or settings.stages[spec.stage]
        batch = stage.slice_size * stage.slices_per_step
        told = [
            book.name(spec, folder.name),
            "asked for" if spec.requested else "stood on",
            folder.status() or "missing",
        ]
        rows.append([str(number), *told, count(spec.steps), count(spec.steps * batch), mixture(spec)])
    print_table(("", "run", "", "state", "steps", "samples", "mixture"), rows, numbers=(4, 5))
    left = sum(row[3] != "finished" for row in rows)
    say(f"{len(rows)} runs, {left} to be made below {settings.paths.runs}" if left else "all are finished")


def mixture(spec: RunSpec) -> str:
    """Each recipe's share of the samples, largest first."""
    shares = sorted(spec.shares.items(), key=lambda entry: -entry[1])
    return ", ".join(f"{name.removeprefix('world_')} {float(share):.0%}" for name, share in shares)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write the plan to a file; a place that cannot be written is told in one line."""
    try:
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise ModalignError(f"--json {path}: {error.strerror}") from error
