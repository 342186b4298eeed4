"""The runs of studies: planned before torch is imported, made one after another in one process, found when finished."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modalign.cli.terminal import warn
from modalign.config.compose import compose_settings
from modalign.config.places import shipped_runs
from modalign.config.recipes import RecipeBook
from modalign.config.schema import Settings
from modalign.config.specs import Planner, RunSpec
from modalign.config.study import Command
from modalign.errors import ModalignError
from modalign.evaluation.scores import read_results
from modalign.evaluation.study_result import Outcome, Phase
from modalign.runs.checks import finished_run
from modalign.runs.finished import locate, measured_otherwise
from modalign.runs.folder import FolderTaken, RunFolder
from modalign.runs.interrupt import Interrupted
from modalign.runs.manifest import Manifest, read_manifest

WAIT_S = 20.0
# Where no finished run tells: two cores, the embedded model, 32 samples a step.
ASSUMED_S_A_STEP = 0.2
ASSUMED_S_A_RUN = 12.0


@dataclass(frozen=True)
class Job:
    """One command with its runs, ancestors first; what of them is finished is looked up anew each time."""

    command: Command
    settings: Settings
    plain: dict[str, Any]
    specs: tuple[RunSpec, ...]

    def folders(self) -> list[tuple[RunSpec, RunFolder]]:
        """Every run with the folder that is, or will be, its own."""
        runs = Path(self.settings.paths.runs)
        return [(spec, locate(runs, spec, shipped=shipped_runs())) for spec in self.specs]

    def missing(self) -> list[tuple[RunSpec, RunFolder]]:
        """Those that are not finished."""
        return [(spec, folder) for spec, folder in self.folders() if not finished_run(folder.path, spec.identity)]

    def check_finished(self) -> None:
        """ModalignError where a run that is finished was measured with other settings than this command has."""
        for spec, folder in self.folders():
            if (manifest := finished_run(folder.path, spec.identity)) is not None:
                self._require_alike(manifest, spec)

    def _require_alike(self, manifest: Manifest, spec: RunSpec) -> None:
        if (other := measured_otherwise(manifest, spec)) is not None:
            raise ModalignError(
                f"{self.command}: {other.removeprefix('note: ')}, or leave the setting out: a study compares what "
                f"was measured alike"
            )

    def chain(self) -> tuple[Phase, ...]:
        """The finished phases that teach modalities, with their results.

        ModalignError where a run's results are another's, or were measured with other settings than this command has.
        """
        phases = []
        for spec, folder in self.folders():
            if self.settings.stages[spec.stage].backbone is not None:
                continue
            manifest, results = read_manifest(folder.path), read_results(folder.path)
            if results.run not in (manifest.name, folder.name, ""):
                raise ModalignError(
                    f"{self.command}: {folder.path} holds the results of {results.run}: measure it again"
                )
            self._require_alike(manifest, spec)
            read = sum(manifest.consumed.values())
            skipped = int(manifest.extra.get("skipped_steps", {}).get("count", 0))
            phases.append(Phase(folder.name, spec.new, results, spec.steps - skipped, read))
        return tuple(phases)


def plan_jobs(commands: Sequence[Command], config_dir: Path | None = None) -> list[Job]:
    """The runs of each command; an error in its settings says which arm it is of.

    Composing is what costs here (half a second): commands that differ in the seed alone share it.
    """
    composed: dict[Any, tuple[Settings, dict[str, Any]]] = {}
    jobs = []
    for command in commands:
        try:
            key = command.overrides if any("${seed}" in word for word in command.overrides) else command.without_seed
            if key not in composed:
                composed[key] = compose_settings(command.overrides, config_dir)
            settings, plain = composed[key]
            settings, plain = settings.model_copy(update={"seed": command.seed}), plain | {"seed": command.seed}
            jobs.append(Job(command, settings, plain, tuple(Planner(settings, RecipeBook(settings)).plan())))
        except ModalignError as error:
            raise ModalignError(f"{command}: {error}") from None
    return jobs


def make_missing(jobs: Sequence[Job], say: Callable[[str], None], wait_s: float = WAIT_S) -> list[str]:
    """Make every run that is not finished; returns what failed, one line each.

    A job with a run that another process is writing is left and looked at again when nothing else is left to do; where
    the run has failed there, it is not tried once more.
    """
    failed: list[str] = []
    todo = list(jobs)
    watched: set[Path] = set()
    while todo:
        held = []
        for job in todo:
            missing = job.missing()
            try:
                if taken := [folder for _, folder in missing if folder.is_locked()]:
                    held.append(job)
                    watched |= {folder.path for folder in taken if folder.status() != "failed"}  # of an earlier try
                elif missing and (reason := _failed_elsewhere(missing, watched) or _make(job, say)) is not None:
                    failed.append(f"{job.command}: {reason}")
                    warn(f"error: {failed[-1]}")
            except FolderTaken:
                held.append(job)
        if len(held) == len(todo):
            say(f"{len(held)} commands wait for runs that other processes are making")
            time.sleep(wait_s)
        todo = held
    return failed


def _failed_elsewhere(missing: Sequence[tuple[RunSpec, RunFolder]], watched: Collection[Path]) -> str | None:
    """What one of the missing runs that another process was seen making (`watched`) has failed with."""
    for folder in (folder for _, folder in missing if folder.path in watched):
        if (manifest := folder.manifest()) is not None and manifest.status == "failed":
            return f"{folder.name} has failed already: {manifest.reason}"
    return None


def outcomes_of(jobs: Sequence[Job]) -> tuple[dict[str, dict[int, Outcome]], list[str]]:
    """By arm and seed what was found, and one line for each arm and seed that is not finished."""
    by_place: dict[tuple[str, int], list[Job]] = {}
    for job in jobs:
        by_place.setdefault((job.command.arm, job.command.seed), []).append(job)
    found: dict[str, dict[int, Outcome]] = {}
    missing = []
    for (arm, seed), parts in by_place.items():
        if any(part.missing() for part in parts):
            missing.append(f"{arm}, seed {seed}")
        else:
            found.setdefault(arm, {})[seed] = Outcome(tuple(part.chain() for part in parts))
    return found, missing


def refuse_unlike(jobs: Sequence[Job]) -> None:
    """ModalignError where runs that are finished, or that two commands share, are measured in unlike ways."""
    ways: dict[str, tuple[Job, dict[str, Any]]] = {}
    for job in jobs:
        job.check_finished()
        for spec in job.specs:
            other, way = ways.setdefault(spec.identity, (job, spec.measuring))
            if way != spec.measuring:
                key = next(key for key in spec.measuring if way.get(key) != spec.measuring[key])
                raise ModalignError(
                    f"{job.command} and {other.command} share the run {spec.name}, which can't be measured in two ways "
                    f"({key}: {spec.measuring[key]} and {way.get(key)}): set {key} for the whole study"
                )


def runs_to_make(jobs: Sequence[Job]) -> Iterator[RunSpec]:
    """The unfinished runs of all jobs, one that several share once."""
    seen: set[str] = set()
    for job in jobs:
        for spec, _ in job.missing():
            if spec.identity not in seen:
                seen.add(spec.identity)
                yield spec


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds that training takes a step, and that a run takes besides; `known_by` says from where."""

    s_a_step: float = ASSUMED_S_A_STEP
    s_a_run: float = ASSUMED_S_A_RUN
    known_by: str = "assumed, for two cores"


def speed_of(jobs: Sequence[Job]) -> Speed:
    """How long the finished runs among those of the jobs took, per process; assumed where none is there."""
    found = {
        folder.path: read_manifest(folder.path)
        for job in jobs
        for spec, folder in job.folders()
        if job.settings.stages[spec.stage].backbone is None and folder.status() == "finished"
    }
    steps = sum(manifest.steps for manifest in found.values())
    if not steps:
        return Speed()
    training = sum(manifest.seconds.get("training", 0.0) for manifest in found.values())
    besides = sum(sum(manifest.seconds.values()) for manifest in found.values()) - training
    return Speed(training / steps, besides / len(found), f"as the {len(found)} finished runs took")


def _make(job: Job, say: Callable[[str], None]) -> str | None:
    """Why the job failed, None where it did not; a signal to stop goes on up."""
    from modalign.stages.curriculum_run import run_all

    say(f"{job.command}: {shlex.join(['python', 'train.py', *job.command.overrides])}")
    try:
        run_all(job.specs, job.settings, job.plain, ["train.py", *job.command.overrides])
    except (Interrupted, FolderTaken):
        raise
    except Exception as error:
        return str(error) or type(error).__name__
    return None
