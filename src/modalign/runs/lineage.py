"""Lineage: from a run back through its parents, each proved to be the one it was, and who holds which part."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from modalign.errors import ModalignError
from modalign.runs.manifest import Manifest, read_manifest
from modalign.runs.sealed import checkpoint_digest, newest_valid, read_seal, verify_checkpoint

if TYPE_CHECKING:
    from torch import Tensor


SHIPPED = Path(__file__).resolve().parents[1] / "world" / "backbones"


@dataclass(frozen=True, slots=True)
class Ancestor:
    """One run of a lineage, with the checkpoint that holds what it trained (None before its first save)."""

    path: Path
    manifest: Manifest
    checkpoint: Path | None


def parent_entry(child: Path, parent: Path) -> dict[str, str]:
    """What the manifest of the run in `child` says of its finished parent: path from the child, name, digest."""
    manifest = read_manifest(parent)
    checkpoint = run_checkpoint(parent, manifest)
    if manifest.status != "finished" or checkpoint is None:
        raise ModalignError(
            f"run {manifest.name} ({parent}) is {manifest.status}, so nothing can build on it: finish it first, "
            f"with {_command(manifest)}"
        )
    path = os.path.relpath(Path(parent).resolve(), Path(child).resolve())
    return {"path": path, "name": manifest.name, "digest": checkpoint_digest(checkpoint)}


def run_checkpoint(folder: Path, manifest: Manifest | None = None) -> Path | None:
    """The checkpoint that stands for a run: the one its manifest names, or else the newest that is whole."""
    manifest = manifest or read_manifest(folder)
    if manifest.checkpoint is not None:
        return Path(folder) / manifest.checkpoint["path"]
    return newest_valid(Path(folder) / "checkpoints")


def checkpoint_entry(folder: Path, checkpoint: Path) -> dict[str, str]:
    """What the manifest of the run in `folder` says of its checkpoint: path from the folder, and digest."""
    path = os.path.relpath(Path(checkpoint).resolve(), Path(folder).resolve())
    return {"path": path, "digest": checkpoint_digest(checkpoint)}


def lineage(folder: Path, full: bool = False) -> list[Ancestor]:
    """The run in `folder` and its parents, eldest first; a parent that is gone or altered is an error naming it.

    Checkpoints are compared by seal and size; `full` reads every byte of them.
    """
    chain: list[Ancestor] = []
    seen: set[Path] = set()
    path: Path | None = Path(folder)
    expected: dict[str, str] | None = None
    child = ""
    while path is not None:
        if path.resolve() in seen:
            raise ModalignError(f"run {path} is its own ancestor: its manifest was altered; delete it, train it anew")
        seen.add(path.resolve())
        ancestor = _visit(path, expected, child, full)
        chain.append(ancestor)
        expected, child = ancestor.manifest.parent, ancestor.manifest.name
        path = None if expected is None else _locate(path, expected)
    return chain[::-1]


def parent_of(folder: Path, manifest: Manifest) -> Path | None:
    """The folder of a run's parent, proved by digest to be the one it was trained on; None where it has none."""
    if manifest.parent is None:
        return None
    path = _locate(Path(folder), manifest.parent)
    _visit(path, manifest.parent, manifest.name, full=False)
    return path


def prove_parent(child: Manifest, parent: Path) -> None:
    """ModalignError unless the run in `parent` is, by digest, the one that `child` was trained on."""
    if child.parent is not None:
        _visit(Path(parent), child.parent, child.name, full=False)


def assemble(folder: Path) -> dict[str, Path]:
    """For each part that the run in `folder` or a parent trained, the checkpoint that holds its latest values."""
    holders: dict[str, Path] = {}
    for ancestor in lineage(folder):
        if ancestor.checkpoint is not None:
            holders |= dict.fromkeys(read_seal(ancestor.checkpoint)["parts"], ancestor.checkpoint)
    return holders


def load_assembled(folder: Path) -> dict[str, Tensor]:
    """The latest trained values of a run's lineage by tensor name, on the CPU, every byte proved.

    What no run of the lineage trained (an encoder, the language model before instruct) is not among them.
    """
    from modalign.runs.checkpoint import load_checkpoint  # torch, which the rest of this module does without

    holders = assemble(folder)
    tensors: dict[str, Tensor] = {}
    for checkpoint in dict.fromkeys(holders.values()):
        parts = [part for part, holder in holders.items() if holder == checkpoint]
        tensors |= load_checkpoint(checkpoint, parts=parts, with_state=False).flat()
    return tensors


def _visit(path: Path, expected: dict[str, str] | None, child: str, full: bool) -> Ancestor:
    """Read one run and prove that it is what its child (`expected`, None for the youngest) was trained on."""
    if expected is not None and not (path / "manifest.json").exists():
        raise ModalignError(
            f"parent gone: run {child} was trained on {expected['name']}, which is not at {path}: put it back, or "
            f"remove the folder of {child} and give its command again, which trains both"
        )
    manifest = read_manifest(path)
    checkpoint = run_checkpoint(path, manifest)
    if expected is not None:
        digest = None if checkpoint is None or not checkpoint.is_dir() else checkpoint_digest(checkpoint)
        if digest is None or checkpoint is None:
            raise ModalignError(
                f"parent gone: the checkpoint of run {expected['name']} ({path}), on which {child} was trained, was "
                f"deleted: put it back, or train both again (delete {path} and {child})"
            )
        if digest != expected["digest"]:
            raise ModalignError(
                f"parent altered: run {child} was trained on {expected['name']} with digest {expected['digest'][:12]}, "
                f"the one at {path} has {digest[:12]}: put the earlier one back, or remove the folder of {child} "
                f"and give its command again"
            )
    if checkpoint is not None:
        verify_checkpoint(checkpoint, quick=not full)
    return Ancestor(path, manifest, checkpoint)


def _locate(child: Path, parent: dict[str, str]) -> Path:
    """Where a run's parent lies: as the manifest says, else by its name beside the child or among the shipped runs.

    The others are for runs folders that were moved or copied; what is found is proved by digest in any case.
    """
    written = Path(os.path.normpath(child / parent["path"]))
    others = (child.resolve().parent / written.name, SHIPPED / written.name)
    return next((folder for folder in (written, *others) if folder.exists()), written)


def _command(manifest: Manifest) -> str:
    return f"`{' '.join(manifest.command)}`" if manifest.command else "the command that made it"
