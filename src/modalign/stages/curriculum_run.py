"""Run the phases of a command one after another in one process, ancestors first, and keep the curriculum's record."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from modalign.config.command import command_for
from modalign.config.places import shipped_runs
from modalign.config.processes import SINGLE, check_processes, engine_of
from modalign.config.recipes import RecipeBook
from modalign.config.schema import Settings
from modalign.config.shipped import could_be_shipped
from modalign.config.specs import RunSpec
from modalign.errors import ModalignError
from modalign.evaluation.gate import GateClosed, pass_gate
from modalign.runs.checks import finished_run
from modalign.runs.files import check_writable
from modalign.runs.finished import locate, measured_otherwise
from modalign.runs.folder import FolderTaken, RunFolder
from modalign.runs.interrupt import Interrupted
from modalign.runs.launch import Launch
from modalign.runs.lineage import lineage, prove_parent
from modalign.runs.manifest import read_manifest
from modalign.runs.ranks import Ranks, joined
from modalign.runs.record import CurriculumRecord, record_folder, write_record
from modalign.stages.engine import computes_on_gpu
from modalign.stages.held_out import require_held_out
from modalign.stages.measure import Measure
from modalign.stages.notices import quiet_libraries
from modalign.stages.phase_run import PhaseRun
from modalign.stages.rehearsal import rehearse, rehearse_data
from modalign.stages.sources import SourceBook

log = logging.getLogger(__name__)
ONE = Launch()


def run_all(
    specs: Sequence[RunSpec], settings: Settings, plain: dict[str, Any], command: Sequence[str], launch: Launch = ONE
) -> int:
    """Make what is missing of the runs, in order; 0 when all are finished. Every process of the launch calls this."""
    quiet_libraries(tell=launch.rank == 0)
    engine = engine_of(settings.trainer, launch)
    device = "cuda" if computes_on_gpu(settings.trainer.accelerator) else "cpu"
    with joined(launch, device, grouped=engine != SINGLE) as ranks, ranks.telling():
        _run_phases(specs, settings, plain, command, ranks)
        ranks.gather(None)  # nobody leaves while another still talks
    return 0


def _run_phases(
    specs: Sequence[RunSpec], settings: Settings, plain: dict[str, Any], command: Sequence[str], ranks: Ranks
) -> None:
    console = Console(highlight=False, quiet=not ranks.first)
    runs = Path(settings.paths.runs)
    folders, unmade = ranks.of_first(lambda: _whereabouts(specs, settings, runs, command))
    missing = [spec for spec in specs if spec.identity in unmade]
    if ranks.first and (told := could_be_shipped(settings, missing)) is not None:
        log.info(told)
    check_processes(settings, missing, ranks.launch)
    sources = SourceBook(settings, RecipeBook(settings))
    ranks.together(lambda: rehearse(sources, missing))
    ranks.first_then_all(lambda: sources.ensure(_recipes(settings, specs, missing)))
    ranks.together(lambda: require_held_out(settings, sources.book, missing))
    ranks.together(lambda: rehearse_data(sources, missing))
    measure = Measure(sources)
    record = CurriculumRecord(settings.curriculum.name)
    record.declared = [spec.identity for spec in specs if settings.stages[spec.stage].backbone is None]
    place = record_folder(runs, settings.curriculum.name, [spec.identity for spec in specs])
    chain: list[tuple[Path, Sequence[str]]] = []
    for number, spec in enumerate(specs, 1):
        folder = folders[spec.identity]
        if spec in missing:
            console.print(f"[bold]phase {number} of {len(specs)}: {folder.name}[/bold]")
            parent = folders[spec.parent.identity] if spec.parent else None
            with _noting_a_stop(record, place, folder.name, ranks):
                PhaseRun(spec, folder, parent, sources, measure, command, plain, ranks)()
        else:
            ranks.of_first(partial(_reused, spec, folders))
        if settings.stages[spec.stage].backbone is None:
            chain.append((folder.path, spec.new))
            if ranks.first:
                record.add(place, folder.path, spec.stage, spec.new, spec.seen)
                record.status = "finished" if spec is specs[-1] else "running"
                write_record(place, record)
            ranks.of_first(lambda: _gate(settings, console, chain, place, record))
    if ranks.first:
        _close(console, folders[specs[-1].identity], place, bool(record.phases))


def _reused(spec: RunSpec, folders: Mapping[str, RunFolder]) -> None:
    """A finished run that counts as a phase must stand on the run that is the phase before it."""
    manifest = read_manifest(folders[spec.identity].path)
    if spec.parent is not None and spec.parent.identity in folders:
        prove_parent(manifest, folders[spec.parent.identity].path)
    if (other := measured_otherwise(manifest, spec)) is not None:
        log.info(other.removeprefix("note: "))


@contextmanager
def _noting_a_stop(record: CurriculumRecord, place: Path, phase: str, ranks: Ranks) -> Iterator[None]:
    """Where a phase ends with an error, the record of those before it says so (a kill leaves it `running`)."""
    try:
        yield
    except FolderTaken:
        raise  # another process makes that phase, and writes the record
    except BaseException as error:
        if ranks.first and record.phases:
            record.status = "interrupted" if isinstance(error, (Interrupted, KeyboardInterrupt)) else "failed"
            record.reason = f"{phase}: {str(error) or type(error).__name__}"
            write_record(place, record)
        raise


def _gate(
    settings: Settings, console: Console, chain: Sequence[tuple[Path, Sequence[str]]], place: Path,
    record: CurriculumRecord,
) -> None:  # fmt: skip
    """Stop where the phase just finished cost an earlier modality more than is allowed, with all reports written."""
    limit = settings.curriculum.gate.max_forgetting
    if limit is None:
        return
    verdict = pass_gate(limit, chain, place, record)
    if not verdict.kept:
        from modalign.evaluation.report.run_report import write_run_report

        folder = RunFolder(chain[-1][0])
        write_run_report(folder.path)
        _close(console, folder, place, True)
        raise GateClosed(verdict.words)


def _whereabouts(
    specs: Sequence[RunSpec], settings: Settings, runs: Path, command: Sequence[str]
) -> tuple[dict[str, RunFolder], frozenset[str]]:
    """Each run's folder by identity, and the identities of those that are not finished."""
    folders = {spec.identity: locate(runs, spec, settings.fresh, shipped_runs()) for spec in specs}
    begun = _begun_anew(specs, folders) if settings.fresh else {}
    folders |= begun
    missing = [
        spec
        for spec in specs
        if (settings.fresh and spec.requested and spec.identity not in begun)
        or not finished_run(folders[spec.identity].path, spec.identity)
    ]
    _refuse_unmade(settings, missing, command)
    check_writable(runs)
    return folders, frozenset(spec.identity for spec in missing)


def _begun_anew(specs: Sequence[RunSpec], folders: Mapping[str, RunFolder]) -> dict[str, RunFolder]:
    """Where `fresh` goes on with a phase that was stopped, the phases that it stands on are those made with it."""
    asked = {spec.identity for spec in specs if spec.requested}
    for spec in reversed([spec for spec in specs if spec.requested]):
        folder = folders[spec.identity]
        if (manifest := folder.manifest()) is not None and manifest.parent is not None:
            earlier = lineage(folder.path)[:-1]
            return {a.manifest.identity: RunFolder(a.path) for a in earlier if a.manifest.identity in asked}
    return {}


def _refuse_unmade(settings: Settings, missing: Sequence[RunSpec], command: Sequence[str]) -> None:
    unasked = [spec for spec in missing if not spec.requested]
    if unasked and not settings.model.make_missing:
        raise ModalignError(
            f"phase {unasked[0].name} is missing, on which {missing[-1].name} stands: "
            f"run `{command_for(unasked[0], command[1:])}` first"
        )


def _recipes(settings: Settings, specs: Sequence[RunSpec], missing: Sequence[RunSpec]) -> list[str]:
    """The recipes that training and measuring the missing runs will read."""
    names = [name for spec in missing for name in spec.recipes]
    modalities = {m for spec in missing if settings.stages[spec.stage].backbone is None for m in spec.modalities}
    book = RecipeBook(settings)
    names += [name for m in settings.modalities if m in modalities for name in book.alignment_recipes(m)]
    if modalities and settings.data.text_loss:
        names.append(settings.data.text_loss)
    if any(settings.stages[spec.stage].template == "chat" for spec in missing):
        names += [n for n in settings.data.pairs if set(book.media(n)) <= modalities]
    return list(dict.fromkeys(names))


def _close(console: Console, last: RunFolder, place: Path, any_phase: bool) -> None:
    if any_phase:
        from modalign.evaluation.chain import curriculum_ledger
        from modalign.evaluation.ledger_table import ledger_table
        from modalign.evaluation.report.curriculum_report import write_curriculum_report

        report = write_curriculum_report(place)
        console.print(ledger_table(curriculum_ledger(place)))
        console.print(f"curriculum report: {report}")
    if last.report_file.exists():
        console.print(f"run report: {last.report_file}")
