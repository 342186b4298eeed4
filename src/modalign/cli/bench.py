"""`modalign bench [ROW …] [key=value …]`: training against its peers, as ratios from interleaved runs."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

from modalign.bench.rows import CPU, GPU, ROWS, select
from modalign.bench.sizes import SIZES
from modalign.cli.environment import prepare_environment
from modalign.cli.parser import VerbParser
from modalign.cli.terminal import print_table, say, warn
from modalign.config.compose import compose_settings
from modalign.errors import ModalignError, unknown_name

SUMMARY = """Measure training against its peers: the published step on the same weights, the Hugging Face Trainer, plain
Lightning, a raw torch loop, webdataset. Losses and gradients are compared before anything is timed; runs are
interleaved in one process; a ratio is judged only where ours timed twice agrees with itself to 5 %."""
EXAMPLES = [
    "modalign bench --size small --rounds 3",
    "modalign bench align align_bf16 floor",
    "modalign bench align packing model.language_model.attention=packed",
    "modalign bench --json bench.json --picture bench.svg --page docs/speed.md",
    "modalign bench --device cuda --size full",
]


class BelowGate(ModalignError):
    """Rows that missed their gate, where `--gate` makes that an error."""

    exit_code = 1


def run(arguments: Sequence[str]) -> int:
    """Measure, tell, write; with `--gate` a row below its gate ends with exit code 1."""
    options = _parser().parse(arguments)
    if options.size is not None and options.size not in SIZES:
        raise unknown_name("size", options.size, SIZES, "modalign bench")
    changes = tuple(word for word in options.rows if "=" in word)
    wanted = [word for word in options.rows if "=" not in word]
    select(wanted, CPU)
    if changes:
        compose_settings([*SIZES["tiny"].step.settings, *changes])
    prepare_environment()
    if options.threads:
        os.environ["OMP_NUM_THREADS"] = str(options.threads)
    import torch

    from modalign.bench.drawing import draw
    from modalign.bench.run import choose_device, run_rows
    from modalign.bench.table import HEADER, NUMBERS, below, ceilings, cells, facts, unjudged, write_page
    from modalign.stages.engine import set_threads

    set_threads(options.threads, 0)
    device = choose_device(options.device)
    kind = GPU if device.type == "cuda" else CPU
    size = options.size or ("full" if kind == GPU else "standard")
    torch.manual_seed(0)
    names = select(wanted, kind)
    report = run_rows(
        names, size, device, options.clock, options.rounds,
        lambda verdict: warn(f"{verdict.name}: {verdict.result.ratio.value:.3g} ({verdict.result.agreement})"), changes,
    )  # fmt: skip
    print_table(HEADER, [cells(verdict) for verdict in report.verdicts], numbers=NUMBERS)
    for line in [*facts(report), *unjudged(report), *ceilings(report)]:
        say(line)
    if options.json is not None:
        _write(options.json, json.dumps(report.to_dict(), indent=1) + "\n")
    if options.picture is not None:
        draw(options.picture, report)
    if options.page is not None:
        write_page(options.page, report)
    if options.gate and (missed := below(report.verdicts)):
        raise BelowGate(f"below the gate: {', '.join(missed)}")
    return 0


def _parser() -> VerbParser:
    width = max(map(len, ROWS))
    rows = "\n".join(f"  {name:<{width}}  {row.title}" for name, row in ROWS.items())
    parser = VerbParser("bench", f"{SUMMARY}\n\nrows\n{rows}", EXAMPLES)
    parser.add_argument(
        "rows", nargs="*", metavar="ROW",
        help="which rows (without: all of the device), and settings of the models as key=value",
    )  # fmt: skip
    parser.add_argument("--size", metavar="NAME", help=f"{', '.join(SIZES)} (bars hold at standard, on a GPU at full)")
    parser.add_argument("--device", metavar="NAME", default="auto", help="auto, cpu or cuda")
    parser.add_argument(
        "--rounds",
        metavar="N",
        type=_positive,
        default=5,
        help="how often each is timed (5); what a framework costs on the same batches, three times as often",
    )
    parser.add_argument("--threads", metavar="N", type=_positive, default=0, help="of torch (all physical cores)")
    parser.add_argument(
        "--clock", choices=("wall", "processor"), default="wall",
        help="processor: count only what this process computes, for a machine that others use (with --threads 1)",
    )  # fmt: skip
    parser.add_argument("--json", metavar="FILE", type=Path, help="write everything, every round's seconds too")
    parser.add_argument("--picture", metavar="FILE", type=Path, help="draw ratios against their bars (svg, png, pdf)")
    parser.add_argument("--page", metavar="FILE", type=Path, help="fill the block <!-- bench --> of a page")
    parser.add_argument("--gate", action="store_true", help="exit code 1 where a judged row is below its gate")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ModalignError(f"--json {path}: {error.strerror}") from error
