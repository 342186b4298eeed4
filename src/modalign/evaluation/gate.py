"""The gate of a curriculum: how far a phase may let the modalities before it fall, and what is done where it did."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from modalign.errors import ModalignError
from modalign.evaluation.ledger import Forgetting, Ledger, build_ledger
from modalign.evaluation.scores import RESULTS_FILE, read_results
from modalign.runs.checks import finished_run
from modalign.runs.finished import Named, locate
from modalign.runs.folder import RunFolder
from modalign.runs.manifest import read_manifest, write_manifest
from modalign.runs.record import CurriculumRecord, find_record, record_folder, write_record

log = logging.getLogger(__name__)

Chain = Sequence[tuple[Path, Sequence[str]]]
"""The finished phases of a curriculum so far, in order: each run's folder and its new modalities."""


class GateClosed(ModalignError):
    """A phase has cost an earlier modality more than `curriculum.gate.max_forgetting` allows."""

    exit_code = 3


class PhaseOf(Named, Protocol):
    """What is known of a phase before it runs."""

    @property
    def stage(self) -> str:
        """The stage's name."""

    @property
    def new(self) -> tuple[str, ...]:
        """The modalities that it adds."""

    @property
    def seen(self) -> tuple[str, ...]:
        """Those that were there before."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the last phase of a chain cost: the modality that is furthest below its own phase's score, if one is known.

    `limit` is in percentage points, `worst.change` a share.
    """

    run: str
    limit: float
    worst: Forgetting | None

    @property
    def kept(self) -> bool:
        """Whether the gate is open: nothing fell further than the limit."""
        return self.worst is None or -100 * self.worst.change <= self.limit + 1e-9

    @property
    def words(self) -> str:
        """One line: what fell, how far, and how to go on."""
        assert self.worst is not None
        return (
            f"the curriculum stops after {self.run}: {self.worst.modality} is {-100 * self.worst.change:.1f} points "
            f"below its own phase's score, curriculum.gate.max_forgetting={self.limit:g} allows no more: train that "
            f"phase otherwise (replay, fewer steps), or raise the limit (null: no gate) and give the command again"
        )

    def as_dict(self) -> dict[str, Any]:
        """What the manifest of the run keeps, as `gate`; `change` in points."""
        worst = {} if self.worst is None else {"modality": self.worst.modality, "change": 100 * self.worst.change}
        return {"max_forgetting": self.limit, "kept": self.kept, **worst}


def judge(limit: float, chain: Chain) -> Verdict:
    """The verdict on the last phase of `chain`, by the captions' scores on test that its ledger shows.

    ModalignError where a phase's results are not there: nothing can be judged then.
    """
    last = len(chain) - 1
    run = chain[last][0].name
    if unmeasured := [folder for folder, _ in chain if not (folder / RESULTS_FILE).is_file()]:
        raise ModalignError(
            f"curriculum.gate.max_forgetting={limit:g} cannot be judged after {run}: {unmeasured[0]} has no "
            f"{RESULTS_FILE}; `modalign evaluate {unmeasured[0]}` measures it"
        )
    ledger = build_ledger([(folder.name, new, read_results(folder)) for folder, new in chain])
    worst = _worst_at(ledger, last)
    if worst is None and last and any(new for _, new in chain[:-1]):
        log.warning("%s: no caption score on test to compare, so curriculum.gate judges nothing", run)
    return Verdict(run, limit, worst)


def pass_gate(limit: float, chain: Chain, place: Path, record: CurriculumRecord) -> Verdict:
    """Judge the last phase, and write it down: in its manifest, and in the curriculum's record where it stops."""
    verdict = judge(limit, chain)
    folder = RunFolder(chain[-1][0])
    if read_manifest(folder.path).extra.get("gate") != verdict.as_dict():
        with folder.lock():
            manifest = read_manifest(folder.path)
            manifest.extra["gate"] = verdict.as_dict()
            write_manifest(folder.path, manifest)
    if not verdict.kept:
        record.status, record.reason = "stopped", verdict.words
        if find_record(place) != record:
            write_record(place, record)
    return verdict


def refuse_if_stopped(
    limit: float | None, root: Path, name: str, phases: Sequence[PhaseOf], fresh: bool = False, first: bool = True
) -> None:
    """GateClosed where a finished phase of the curriculum `name` under `root` broke the gate: nothing goes on from it.

    Told without torch, before anything is made; only the `first` of several processes writes it down.
    """
    if limit is None:
        return
    place = record_folder(root, name, [phase.identity for phase in phases])
    record, chain = CurriculumRecord(name), []
    for phase, folder in _finished(root, phases, fresh):
        chain.append((folder, phase.new))
        record.add(place, folder, phase.stage, phase.new, phase.seen)
        verdict = pass_gate(limit, chain, place, record) if first else judge(limit, chain)
        if not verdict.kept:
            raise GateClosed(verdict.words)


def _finished(root: Path, phases: Sequence[PhaseOf], fresh: bool) -> Iterable[tuple[PhaseOf, Path]]:
    """The phases that are finished, up to the first that is not; backbones, which say nothing, are left out."""
    for phase in phases:
        if not phase.measuring:
            continue
        folder = locate(root, phase, fresh).path
        if finished_run(folder, phase.identity) is None:
            return
        yield phase, folder


def _worst_at(ledger: Ledger, phase: int) -> Forgetting | None:
    changes = [
        Forgetting(modality, ledger.phases[phase], change)
        for modality in ledger.modalities
        if (change := ledger.change(phase, modality)) is not None
    ]
    return min(changes, key=lambda found: found.change, default=None)
