"""The manifest of a run as it begins: what it is, from which parent, on what data, what trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from modalign.config.specs import RunSpec
from modalign.models.freezing import FreezePlan
from modalign.models.parts import count_parameters
from modalign.models.start_values import Copied
from modalign.runs.checks import package_versions
from modalign.runs.folder import RunFolder
from modalign.runs.lineage import parent_entry
from modalign.runs.manifest import Manifest
from modalign.stages.sources import SourceBook


def first_manifest(
    spec: RunSpec,
    folder: RunFolder,
    parent: RunFolder | None,
    sources: SourceBook,
    command: Sequence[str],
    plain: dict[str, Any],
    model: nn.Module,
    plan: FreezePlan,
    copied: Sequence[Copied],
) -> Manifest:
    """Of the run `spec`, whose model is assembled and has its freeze applied; `plain` is the resolved configuration."""
    book = sources.book
    return Manifest(
        name=folder.name, identity=spec.identity, stage=spec.stage,
        modalities={"new": list(spec.new), "seen": list(spec.seen)}, status="running",
        command=list(command), config=plain, spec=spec.meaning,
        parent=parent_entry(folder.path, parent.path) if parent else None,
        recipes={
            name: {"folder": str(book.folder(name)), "samples": book.num_samples(name, "train"),
                   "digest": sources.digest(name)}
            for name in spec.recipes
        },
        parts=[
            {"name": part, "parameters": count, "trains": part in plan.trains, "gradient": None, "unchanged": None}
            | ({"begun": True} if part in plan.begun else {})
            for part, count in count_parameters(model).items()
        ],
        start_values=[
            {"rule": c.rule, "target": c.target, "source": c.source, "tensors": c.tensors} for c in copied
        ],
        seed=sources.settings.seed, versions=package_versions(), steps=spec.steps,
    )  # fmt: skip
