"""Where a command's runs lie, and the answer for a command whose runs are all finished: without torch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from modalign.errors import ModalignError
from modalign.runs.checks import finished_run
from modalign.runs.folder import RunFolder, place_run
from modalign.runs.lineage import prove_parent
from modalign.runs.manifest import Manifest, read_manifest

# No difference where a command has none: alignment asks no pairs, and earlier versions noted how many items are shown.
NOT_ASKED = {"pairs", "num_shown"}


class Named(Protocol):
    """What is known of a run before it exists; `measuring` is what its numbers, not its weights, depend on."""

    @property
    def measuring(self) -> dict[str, Any]:
        """Settings of the evaluation."""

    @property
    def name(self) -> str:
        """The folder's name."""

    @property
    def identity(self) -> str:
        """The full identity."""

    @property
    def requested(self) -> bool:
        """Whether the command asked for it, rather than stands on it."""

    @property
    def parent(self) -> Named | None:
        """The run that it stands on."""


def locate(root: Path, run: Named, fresh: bool = False, shipped: Path | None = None) -> RunFolder:
    """The folder of a run under `root`; a finished one of the same identity that ships with the package stands in."""
    place = place_run(root, run.name, run.identity, fresh and run.requested)
    if place.status() != "finished" and shipped is not None and not (fresh and run.requested):
        packaged = RunFolder(shipped / run.name)
        if finished_run(packaged.path, run.identity) is not None:
            return packaged
    return place


def answer_if_finished(
    root: Path, runs: Iterable[Named], fresh: bool = False, shipped: Path | None = None
) -> str | None:
    """One line for each requested run if all of them are finished, else None."""
    if fresh:
        return None
    lines = []
    for run in runs:
        if not run.requested:
            continue
        folder = locate(root, run, shipped=shipped)
        manifest = finished_run(folder.path, run.identity)
        if manifest is None:
            return None
        if run.parent is not None and run.parent.requested:
            prove_parent(manifest, locate(root, run.parent, shipped=shipped).path)
        lines.append(f"finished already: {folder.path} (fresh=true starts another beside it)")
        if (other := measured_otherwise(manifest, run)) is not None:
            lines.append(other)
    return "\n".join(lines)


def measured_otherwise(manifest: Manifest, run: Named) -> str | None:
    """What to do where a finished run was measured with other settings than a command has now; else None."""
    before = manifest.extra.get("measuring", run.measuring)
    keys = [*run.measuring, *(key for key in before if key not in run.measuring and key not in NOT_ASKED)]
    changed = [key for key in keys if before.get(key) != run.measuring.get(key)]
    if not changed:
        return None
    told = ", ".join(f"{key}={before.get(key)}" for key in changed)
    return (
        f"note: {manifest.name} was measured with {told}; `modalign evaluate` with the run's folder and the new "
        f"settings measures it again"
    )


def answering_run(folder: Path) -> Manifest:
    """The manifest of a run that can be measured and asked: finished, with modalities aligned to a language model."""
    manifest = read_manifest(folder)
    if "new" not in manifest.spec:
        raise ModalignError(
            f"run {manifest.name} made a backbone (stage {manifest.stage}): it has no results and answers nothing; "
            f"name a run of a later stage"
        )
    if manifest.status != "finished":
        again = f"`{manifest.shell_command}`" if manifest.command else "the command that made it"
        raise ModalignError(f"run {manifest.name} is {manifest.status}, not finished: {again} continues it")
    return manifest
