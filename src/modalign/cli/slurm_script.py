"""`modalign slurm-script …`: a training command as a job script for SLURM, one task a GPU, that survives preemption."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from string import Template

from modalign.cli.parser import VerbParser, quoted, read_settings
from modalign.cli.terminal import say
from modalign.config.processes import check_processes
from modalign.config.recipes import RecipeBook
from modalign.config.specs import Planner
from modalign.errors import ModalignError, unknown_name
from modalign.runs.launch import Launch

SUMMARY = """Write a job script for SLURM to stdout: the training command with the same settings, one task a GPU, that
saves at an optimizer step when SLURM asks it to stop, is started again once, and goes on in the same run folder."""
EXAMPLES = (
    "modalign slurm-script stage=align modality=audio --partition gpu --nodes 2 --gpus-per-node 8 > job.sbatch",
    "modalign slurm-script --partition gpu --time 2-00:00:00 --setup 'module load cuda' > job.sbatch",
)
TEMPLATE = Path(__file__).parent / "drafts" / "job.sbatch"
# SLURM's: minutes, minutes:seconds, hours:minutes:seconds, days-hours, days-hours:minutes, days-hours:minutes:seconds.
_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<first>\d+)(?::(?P<second>\d+))?(?::(?P<third>\d+))?")
_ASKING_S = 10.0


def run(arguments: Sequence[str]) -> int:
    """Check the settings as a training command would, then print the script."""
    options = _parser().parse(arguments)
    _check(options)
    extra = [] if any(word.startswith("trainer=") for word in options.settings) else ["trainer=slurm"]
    settings, _ = read_settings(options, extra)
    specs = Planner(settings, RecipeBook(settings)).plan()
    tasks = _tasks(options)
    launch = Launch(world_size=options.nodes * tasks, local_size=tasks, by="slurm")
    _check_launch(settings.trainer, options.nodes, tasks)
    check_processes(settings, [spec for spec in specs if spec.requested], launch)
    say(script(options, [*extra, *_overrides(options)], settings.paths.runs, arguments))
    return 0


def _check_launch(trainer: TrainerSettings, nodes: int, tasks: int) -> None:
    """ModalignError where the settings ask for other numbers of processes than the job has."""
    for name, given, actual, option in (
        ("devices", trainer.devices, tasks, "--gpus-per-node or --tasks-per-node"),
        ("num_nodes", trainer.num_nodes, nodes, "--nodes"),
    ):
        if given not in ("auto", 1, actual):
            raise ModalignError(
                f"trainer.{name}={given}, but the job would have {actual} ({option}): leave trainer.{name} out, or "
                f"make them agree"
            )


def script(options: argparse.Namespace, overrides: Sequence[str], runs: str, arguments: Sequence[str]) -> str:
    """The text of the job script."""
    train = [options.python, "train.py"]
    if options.config_dir is not None:
        train += ["--config-dir", str(options.config_dir)]
    return Template(TEMPLATE.read_text()).substitute(
        command=shlex.join(arguments),
        options="\n".join(f"#SBATCH {line}" for line in _sbatch_lines(options)),
        notice=options.notice,
        log=options.log,
        setup="\n".join(["", *options.setup, ""]) if options.setup else "",
        runs=shlex.quote(runs),
        train=shlex.join([*train, *overrides]),
    )


def _parser() -> VerbParser:
    parser = VerbParser("slurm-script", SUMMARY, EXAMPLES)
    parser.add_argument("--partition", metavar="NAME", help="where the job runs (needed; `sinfo` lists them)")
    parser.add_argument("--nodes", type=int, default=1, metavar="N")
    parser.add_argument("--gpus-per-node", type=int, default=1, metavar="N", help="0: on CPUs")
    parser.add_argument("--tasks-per-node", type=int, metavar="N", help="processes a node (default: one a GPU)")
    parser.add_argument(
        "--cpus-per-task", type=int, default=8, metavar="N", help="for the loader's workers (default 8)"
    )
    parser.add_argument("--time", default="24:00:00", help="time limit of one stretch (default 24:00:00)")
    parser.add_argument("--notice", type=int, default=300, metavar="S", help="seconds before it to save (default 300)")
    for name in ("account", "qos", "mem", "constraint"):
        parser.add_argument(f"--{name}", metavar=name.upper(), help=f"as sbatch's --{name}")
    parser.add_argument("--name", default="modalign", help="the job's name")
    parser.add_argument(
        "--log", default="slurm-%j.out", metavar="FILE", help="where its output goes (default slurm-%%j.out)"
    )
    parser.add_argument("--setup", action="append", default=[], metavar="LINE", help="a shell line before it starts")
    parser.add_argument("--python", default=sys.executable, metavar="FILE", help="the interpreter (default: this one)")
    parser.add_settings()
    return parser


def _overrides(options: argparse.Namespace) -> list[str]:
    """The settings as train.py takes them."""
    own = [f"world={options.world}"] if options.world else []
    own += [f"paths.data={quoted(options.data)}"] if options.data else []
    return [*options.settings, *own]


def _sbatch_lines(options: argparse.Namespace) -> list[str]:
    lines = [
        f"--job-name={options.name}", f"--partition={options.partition}", f"--nodes={options.nodes}",
        f"--ntasks-per-node={_tasks(options)}", f"--cpus-per-task={options.cpus_per_task}", f"--time={options.time}",
    ]  # fmt: skip
    if options.gpus_per_node:
        lines.append(f"--gpus-per-node={options.gpus_per_node}")
    return lines + [
        f"--{name}={value}" for name in ("account", "qos", "mem", "constraint") if (value := getattr(options, name))
    ]


def _tasks(options: argparse.Namespace) -> int:
    return int(options.tasks_per_node or options.gpus_per_node or 1)


def _check(options: argparse.Namespace) -> None:
    known = partitions()
    if not options.partition:
        listing = f"this cluster has {', '.join(known)}" if known else "`sinfo` lists them"
        raise ModalignError(f"a job script needs a partition: add --partition NAME ({listing})")
    if known and options.partition not in known:
        raise unknown_name("partition", options.partition, known, "this cluster")
    for name, least in (("nodes", 1), ("gpus_per_node", 0), ("cpus_per_task", 1), ("notice", 1)):
        if getattr(options, name) < least:
            raise ModalignError(f"--{name.replace('_', '-')} {getattr(options, name)}: should be at least {least}")
    if options.gpus_per_node and options.tasks_per_node not in (None, options.gpus_per_node):
        raise ModalignError(
            f"--tasks-per-node {options.tasks_per_node} with --gpus-per-node {options.gpus_per_node}: training takes "
            f"one task a GPU; leave --tasks-per-node out"
        )
    limit = seconds(options.time)
    if limit <= 2 * options.notice:
        raise ModalignError(
            f"--time {options.time} is {limit} s, of which the last {options.notice} are for saving: no more than half "
            f"may go to it; raise --time or lower --notice"
        )


def seconds(limit: str) -> int:
    """A time limit as SLURM writes them, in seconds."""
    found = _TIME.fullmatch(limit)
    if found is None:
        raise ModalignError(f"--time {limit}: SLURM takes minutes, hours:minutes:seconds or days-hours:minutes:seconds")
    parts = [int(found[name] or 0) for name in ("first", "second", "third")]
    if found["days"] is not None:
        return int(found["days"]) * 86400 + parts[0] * 3600 + parts[1] * 60 + parts[2]
    if found["third"] is not None:
        return parts[0] * 3600 + parts[1] * 60 + parts[2]
    return parts[0] * 60 + parts[1]


def partitions() -> list[str]:
    """The partitions of this machine's cluster; none where there is no SLURM to ask."""
    if shutil.which("sinfo") is None:
        return []
    try:
        asked = subprocess.run(
            ["sinfo", "--noheader", "--format=%R"], capture_output=True, text=True, timeout=_ASKING_S, check=False
        )
    except subprocess.TimeoutExpired:
        return []
    return sorted(set(asked.stdout.split())) if asked.returncode == 0 else []
