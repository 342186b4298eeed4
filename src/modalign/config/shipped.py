"""Backbones that ship with the package, taken as they are: runs of any seed and world then stand on the same ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from modalign.config.meaning import backbone_meaning
from modalign.config.places import shipped_runs
from modalign.config.schema import Settings
from modalign.errors import ModalignError
from modalign.runs.identity import differences
from modalign.runs.manifest import Manifest, find_manifest


def shipped_backbones(settings: Settings, stages: Sequence[str]) -> list[Manifest]:
    """The manifest of the shipped run of each stage; ModalignError where there is none, or it made another model."""
    if isinstance(source := settings.model.language_model.get("source"), str):
        raise ModalignError(
            f"model.backbones_from=shipped: what ships belongs to the language model that ships, and "
            f"model.language_model.source={source} names another; leave the setting out"
        )
    found = [m for folder in sorted(shipped_runs().iterdir()) if (m := find_manifest(folder)) is not None]
    chosen = []
    for stage in stages:
        manifest = next((m for m in found if m.stage == stage), None)
        if manifest is None:
            raise ModalignError(
                f"model.backbones_from=shipped: no run of {stage} ships with this package "
                f"({', '.join(m.name for m in found) or 'none at all'}); leave the setting out and it is trained"
            )
        seen = tuple(manifest.modalities["seen"])
        if undeclared := [name for name in seen if name not in settings.modalities]:
            raise ModalignError(
                f"model.backbones_from=shipped: {manifest.name} has seen {', '.join(undeclared)}, which this "
                f"model's modality set does not have; leave the setting out and {stage} is trained"
            )
        wanted = backbone_meaning(settings, seen)
        made = {key: manifest.spec[key] for key in wanted}
        if changed := _differences(made, wanted):
            raise ModalignError(
                f"model.backbones_from=shipped: {manifest.name} was made with {changed[0].replace('!=', 'and not')}; "
                f"leave the setting out and {stage} is trained"
            )
        chosen.append(manifest)
    return chosen


class Unmade(Protocol):
    """What is known of a run that a command will make."""

    @property
    def stage(self) -> str:
        """The stage that trains it."""

    @property
    def requested(self) -> bool:
        """Whether the command asked for it, rather than stands on it."""

    @property
    def meaning(self) -> dict[str, Any]:
        """What it is made of."""


def could_be_shipped(settings: Settings, unmade: Iterable[Unmade]) -> str | None:
    """One sentence where backbones will be trained in whose place the package's own could be taken; else None."""
    runs = [run for run in unmade if run.stage in settings.model.backbones and not run.requested]
    if not runs or settings.model.backbones_from:
        return None
    try:
        found = {made.stage: made for made in shipped_backbones(settings, settings.model.backbones)}
    except ModalignError:
        return None
    apart = differences(found[runs[0].stage].spec, runs[0].meaning)
    changed = [told for told in apart if not told.startswith("parent: ")]  # a digest, which says nothing
    why = f", made with {changed[0].replace('!=', 'and not')}" if changed else ""
    names = " and ".join(dict.fromkeys(run.stage for run in runs))
    instead = "model.backbones_from=shipped takes what comes with the package in its place"
    return f"{names} will be trained first; {instead}{why}"


def _differences(made: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Where two models differ; how attention is computed makes no other model."""
    return [told for told in differences(made, wanted) if not told.startswith("model.language_model.attention: ")]
