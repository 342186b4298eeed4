"""Are the bits of a step that was trained again those of the run? Its logged rows and its checkpoints say so."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from modalign.runs.checkpoint import load_checkpoint
from modalign.runs.checks import code_state, package_versions
from modalign.runs.manifest import Manifest
from modalign.runs.metrics import Metric
from modalign.stages.code import code_changes

# What training alone decides; speeds, validation and probes are not repeated.
COMPARED = ("train/loss", "train/skipped_steps", "lr/")


@dataclass(frozen=True, slots=True)
class RowProof:
    """Logged rows compared: how many are equal to the bit, and the first that is not (what was logged, what came)."""

    equal: int
    total: int
    steps: tuple[int, ...]
    first: tuple[Metric, float | None] | None = None
    relative: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether all of them are equal."""
        return self.equal == self.total


@dataclass(frozen=True, slots=True)
class WeightProof:
    """The tensors of a checkpoint compared: how many there are, and the names of those that differ in a bit."""

    checkpoint: Path
    tensors: int
    differing: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether all of them are equal."""
        return not self.differing


def compare_rows(logged: Sequence[Metric], again: Sequence[Metric], first: int) -> RowProof:
    """Rows of the steps after `first` that were logged both times; means cover the steps since the row before."""
    windows = [_windows(rows, first) for rows in (logged, again)]
    steps = tuple(step for step in windows[0] if windows[1].get(step) == windows[0][step])
    came = {(row.step, row.name): row.value for row in again}
    equal = total = 0
    unequal: tuple[Metric, float | None] | None = None
    relative = 0.0
    for row in logged:
        if row.step not in steps or not row.name.startswith(COMPARED):
            continue
        value = came.get((row.step, row.name))
        total += 1
        if value == row.value:
            equal += 1
            continue
        unequal = unequal or (row, value)
        apart = math.inf if value is None else abs(value - row.value) / max(abs(row.value), 1e-12)
        relative = max(relative, apart)
    return RowProof(equal, total, steps, unequal, relative)


def compare_weights(checkpoint: Path, state: Mapping[str, Tensor]) -> WeightProof:
    """What a checkpoint holds against the tensors that came out of training again."""
    held = load_checkpoint(checkpoint, with_state=False).flat()
    names = sorted(held.keys() | state.keys())
    differing = [n for n in names if n not in held or n not in state or not _same(held[n], state[n])]
    return WeightProof(checkpoint, len(names), tuple(differing))


def changes_since(manifest: Manifest, machine: Mapping[str, Any]) -> list[str]:
    """What is other now than when the run was made and may change last bits: versions, code, machine."""
    now = package_versions()
    told = [
        f"{name} {version} then, {now.get(name, 'none')} now"
        for name, version in manifest.versions.items()
        if now.get(name) != version
    ]
    code, today = manifest.code, code_state()
    if code.get("version") != today["version"]:
        told.append(f"modalign {code.get('version')} then, {today['version']} now")
    if code.get("revision") != today["revision"]:
        told.append(f"code revision {_short(code.get('revision'))} then, {_short(today['revision'])} now")
    if code.get("dirty") or today["dirty"]:
        when = "then and now" if code.get("dirty") and today["dirty"] else "then" if code.get("dirty") else "now"
        told.append(f"code with changes that were not committed, {when}")
    told += code_changes(manifest)
    before = manifest.extra.get("machine", {})
    told += [f"{k}: {before[k]} then, {machine[k]} now" for k in machine if k in before and before[k] != machine[k]]
    return told


def _windows(rows: Sequence[Metric], first: int) -> dict[int, int]:
    """Each logged step after `first`, with the step from which on its means are taken."""
    steps = sorted({row.step for row in rows if row.name == "train/loss"})
    return {step: max(before, first) for before, step in zip([0, *steps], steps, strict=False) if step > first}


def _same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other.cpu())


def _short(revision: str | None) -> str:
    return revision[:12] if revision else "unknown"
