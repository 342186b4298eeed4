"""`modalign ablate ID…`: make the missing runs of studies, compare their arms, write tables and pictures."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from modalign.cli.ablate_beside import beside
from modalign.cli.ablate_earlier import OF_NO_RESULT, SETTINGS, refuse_to_replace
from modalign.cli.ablate_jobs import Job, make_missing, outcomes_of, plan_jobs, refuse_unlike, runs_to_make, speed_of
from modalign.cli.environment import prepare_environment
from modalign.cli.parser import VerbParser, settings_only
from modalign.cli.terminal import print_table, say
from modalign.config.study import FILE, Study, check_modalities, commands_of, find_study, load_study, studies_of
from modalign.errors import ModalignError
from modalign.runs.slurm import stoppable

SUMMARY = """Run studies: experiments/<ID>/study.yaml declares arms that differ in a few settings. What is missing of
their runs is made, one after another; what is finished is found again. Then the arms are compared, item by item and
seed by seed, and result.json, result.md and result.svg are written beside the study."""
EXAMPLES = (
    "modalign ablate replay --seeds 0,1,2",
    "modalign ablate --set quick --list",
    "modalign ablate replay --report-only",
)
SEEDS = {"quick": (0, 1, 2), "full": (0, 1, 2, 3, 4)}


@dataclass(frozen=True)
class Asked:
    """One study of a command: where it lies, its arms, its jobs."""

    name: str
    folder: Path
    study: Study
    arms: tuple[str, ...]
    jobs: tuple[Job, ...]
    seeds: tuple[int, ...]
    settings: tuple[str, ...]
    processes: int = 1


def run(arguments: Sequence[str]) -> int:
    """Make, compare, write; 1 where an arm failed."""
    options = _parser().parse(arguments)
    asked = [_plan(name, options) for name in _names(options)]
    jobs = [job for one in asked for job in one.jobs]
    _tell_estimate(asked)
    for one in asked:
        _tell_idle_arms(one)
    if options.list:
        return 0
    if options.out is None and options.worker is None:
        for one in asked:
            refuse_to_replace(one.folder, one.study, one.arms, one.seeds, one.settings)
    if options.worker is None:
        refuse_unlike(jobs)
    failed: list[str] = []
    others: list[str] = []
    if not options.report_only and next(runs_to_make(jobs), None) is not None:
        prepare_environment()
        number, count = options.worker or (0, options.processes)
        begin = len(jobs) * number // count  # each begins elsewhere, so that none has to wait for another at once
        with stoppable("trainer=slurm" in arguments), beside(arguments, count if number == 0 else 1) as others:
            failed = make_missing([*jobs[begin:], *jobs[:begin]], say)
    written = [_written(one, options.out, others) for one in asked] if options.worker is None else []
    for line in others:
        say(line)
    if failed:
        say(f"{len(failed)} of {len(jobs)} commands failed:")
        for line in failed:
            say(f"  {line}")
    return 1 if failed or others or (options.report_only and not any(written)) else 0


def _parser() -> VerbParser:
    parser = VerbParser("ablate", SUMMARY, EXAMPLES)
    parser.add_argument("words", nargs="*", default=[], metavar="ID|key=value", help="studies (all where none is named)"
                        ", and settings for all of their arms, as in train.py")  # fmt: skip
    parser.add_argument("--set", choices=sorted(SEEDS), default="full", help="quick: each study's quick arms, 3 seeds; "
                        "full: all arms, 5 seeds")  # fmt: skip
    parser.add_argument("--seeds", metavar="0,1,2", help="these instead")
    parser.add_argument(
        "--arm", metavar="NAME", action="append", help="this arm instead (and the baseline); repeatable"
    )
    parser.add_argument("--list", action="store_true", help="print the runs and how long they may take, make nothing")
    parser.add_argument("--processes", metavar="N", type=int, default=1, help="so many at once, with a share of the "
                        "cores each: for a model that is too small for several cores")  # fmt: skip
    parser.add_argument("--worker", type=_worker, help=argparse.SUPPRESS)
    parser.add_argument("--report-only", action="store_true", help="compare what is finished, make nothing")
    parser.add_argument("--folder", metavar="DIR", type=Path, default=Path("experiments"), help="where studies lie")
    parser.add_argument("--out", metavar="DIR", type=Path, help="write the results below DIR, leave the study's alone")
    parser.add_argument("--config-dir", metavar="DIR", type=Path, help="a folder of own YAML files, as in conf/")
    return parser


def _worker(given: str) -> tuple[int, int]:
    number, _, count = given.partition("/")
    return int(number), int(count)


def _names(options: argparse.Namespace) -> list[str]:
    named = [word for word in options.words if "=" not in word]
    known = studies_of(options.folder)
    if not named and not known:
        raise ModalignError(f"no study under {options.folder}: name a folder that holds some (--folder)")
    return named or known


def _plan(name: str, options: argparse.Namespace) -> Asked:
    folder = find_study(name, options.folder)
    study = load_study(folder)
    arms = tuple(study.arms)
    if options.set == "quick" and study.quick:
        arms = tuple(arm for arm in arms if arm in (study.baseline, *study.quick))
    if options.arm:
        arms = tuple(dict.fromkeys((study.baseline, *options.arm)))
    seeds = SEEDS[options.set] if options.seeds is None else _seeds(options.seeds)
    extra = tuple(settings_only([word for word in options.words if "=" in word]))
    if any(word.startswith("seed=") for word in extra):
        raise ModalignError("'seed' is no setting here: give all seeds with --seeds, as in --seeds 0,1,2")
    if any(word.startswith("fresh=") for word in extra):
        raise ModalignError("'fresh' is no setting here: a study takes what is finished; remove a run's folder instead")
    told = tuple(word for word in extra if not word.startswith(OF_NO_RESULT))
    count = options.processes if options.worker is None else options.worker[1]
    if count < 1:
        raise ModalignError(f"--processes {count}: give a number from 1")
    if count > 1 and not any(word.startswith("trainer.threads=") for word in extra):
        extra += (f"trainer.threads={max(1, (os.cpu_count() or 1) // count)}",)
    commands = commands_of(folder.name, study, arms, seeds, extra)
    jobs = tuple(plan_jobs(commands, options.config_dir))
    check_modalities(study, {name for job in jobs for name in job.settings.modalities}, str(folder / FILE))
    return Asked(folder.name, folder, study, arms, jobs, seeds, told, count)


def _seeds(given: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in given.split(","))
    except ValueError:
        raise ModalignError(f"--seeds {given}: give whole numbers with commas between them, as in 0,1,2") from None


def _tell_estimate(asked: Sequence[Asked]) -> None:
    rows = []
    counted: set[str] = set()
    total = 0.0
    speed = speed_of([job for one in asked for job in one.jobs])
    for one in asked:
        fresh = [spec for spec in runs_to_make(one.jobs) if spec.identity not in counted]
        counted |= {spec.identity for spec in fresh}
        seconds = sum(spec.steps * speed.s_a_step + speed.s_a_run for spec in fresh) / one.processes
        total += seconds
        done = sum(not job.missing() for job in one.jobs)
        rows.append([one.name, str(len(one.arms)), f"{done} of {len(one.jobs)}", str(len(fresh)),
                     str(sum(spec.steps for spec in fresh)), _hours(seconds)])  # fmt: skip
    header = ("study", "arms", "commands finished", "runs to make", "steps", "estimate")
    print_table(header, rows, numbers=(1, 2, 3, 4, 5))
    if counted:
        say(
            f"about {_hours(total)} at {speed.s_a_step:.2f} s a step and {speed.s_a_run:.0f} s a run ({speed.known_by})"
        )


def _tell_idle_arms(one: Asked) -> None:
    """Arms whose settings change nothing: they are the baseline's very runs."""
    made = {arm: [job.specs[-1].identity for job in one.jobs if job.command.arm == arm] for arm in one.arms}
    for arm in one.arms:
        if arm != one.study.baseline and made[arm] == made[one.study.baseline]:
            say(f"{one.name}: arm {arm} stands for the very runs of {one.study.baseline}: what it sets changes no run")


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"


def _written(one: Asked, out: Path | None, failed: list[str]) -> bool:
    """The same of one study of several: what is wrong with it does not keep the others from their tables."""
    try:
        return _write(one, out)
    except ModalignError as error:
        failed.append(f"error: {error}")
        return False


def _write(one: Asked, out: Path | None) -> bool:
    """Compare and write; whether there was something to compare."""
    from modalign.evaluation.report.study_chart import draw_study
    from modalign.evaluation.report.study_page import fill_block, study_table
    from modalign.evaluation.study_result import StudyResult, arm_result
    from modalign.runs.files import write_atomic

    found, missing = outcomes_of(one.jobs)
    if one.study.baseline not in found:
        say(f"{one.name}: nothing to compare yet, no seed of the baseline ({one.study.baseline}) is finished")
        return False
    keys = [(score.task, score.split, score.metric) for score in one.study.scores]
    base = found[one.study.baseline]
    rows = [
        arm_result(arm, one.study.arms[arm].settings, found[arm], base, keys, one.study.modalities)
        for arm in one.arms
        if arm in found
    ]
    counts = {label: len(score.shares()) for label, score in next(iter(base.values())).scores(keys).items()}
    made_with = {"base": list(one.study.base), SETTINGS: list(one.settings)}
    result = StudyResult(one.name, one.study.title, one.study.baseline, tuple(rows), counts, tuple(missing), made_with)
    target = one.folder if out is None else out / one.name
    target.mkdir(parents=True, exist_ok=True)
    table = study_table(result)
    write_atomic(target / "result.json", result.as_bytes())
    write_atomic(target / "result.md", table.encode())
    draw_study(result, one.study.curves.model_dump() if one.study.curves else None, target / "result.svg")
    fill_block(target / "README.md", table)
    say(f"{one.name}: {target / 'result.md'}" + (f" ({len(missing)} not finished)" if missing else ""))
    return True
