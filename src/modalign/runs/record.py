"""The record of a curriculum: which runs are its phases and how far it came, beside the runs themselves."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from modalign.errors import ModalignError
from modalign.runs.files import make_folder, write_atomic
from modalign.runs.identity import identity

FILE = "curriculum.json"


@dataclass(frozen=True, slots=True)
class PhaseRecord:
    """One phase of a curriculum and its run, as a path from the curriculum's folder."""

    run: str
    stage: str
    new: list[str]
    seen: list[str]


@dataclass(slots=True)
class CurriculumRecord:
    """The contents of curriculum.json.

    `status` is `running`, `finished` or, with a `reason`, `interrupted` or `failed` as its phase is, or `stopped` at
    its gate.
    `declared` holds the identities of all phases that the command was to make, in order (none before this was noted).
    """

    name: str
    phases: list[PhaseRecord] = field(default_factory=list)
    status: str = "running"
    reason: str | None = None
    declared: list[str] = field(default_factory=list)

    def add(self, folder: Path, run: Path, stage: str, new: tuple[str, ...], seen: tuple[str, ...]) -> None:
        """Note a phase's run for the record in `folder`; a run that is noted already is not noted twice."""
        path = os.path.relpath(Path(run).resolve(), Path(folder).resolve())
        if all(phase.run != path for phase in self.phases):
            self.phases.append(PhaseRecord(path, stage, list(new), list(seen)))


def record_folder(runs: Path, name: str, identities: Sequence[str]) -> Path:
    """Where the record of the curriculum `name` lies whose runs have these identities."""
    return Path(runs) / f"curriculum-{name}-{identity({'runs': list(identities)})[:8]}"


def write_record(folder: Path, record: CurriculumRecord) -> None:
    """Write curriculum.json into `folder`, wholly or not at all."""
    text = json.dumps(asdict(record), indent=2, ensure_ascii=False)
    write_atomic(make_folder(folder) / FILE, text.encode() + b"\n")


def find_record(folder: Path) -> CurriculumRecord | None:
    """The record in `folder`, None where there is none."""
    return read_record(folder) if (Path(folder) / FILE).is_file() else None


def read_record(folder: Path) -> CurriculumRecord:
    """The record in `folder`; ModalignError where there is none or it cannot be read."""
    path = Path(folder) / FILE
    try:
        values = json.loads(path.read_bytes())
        phases = [PhaseRecord(**phase) for phase in values["phases"]]
        declared = list(values.get("declared", []))
        return CurriculumRecord(values["name"], phases, values["status"], values.get("reason"), declared)
    except (FileNotFoundError, NotADirectoryError):
        raise ModalignError(f"{folder} holds no curriculum: there is no {FILE} in it") from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModalignError(f"{path} is damaged ({error}): delete it, the next run writes it") from error


def curricula_of(run: Path) -> list[Path]:
    """The folders beside a run whose curricula have it as a phase; a record that cannot be read is left out."""
    found = []
    for path in sorted(Path(run).resolve().parent.glob(f"*/{FILE}")):
        try:
            phases = read_record(path.parent).phases
        except ModalignError:
            continue
        if any((path.parent / phase.run).resolve() == Path(run).resolve() for phase in phases):
            found.append(path.parent)
    return found
