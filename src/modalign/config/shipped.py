"""Backbones that ship with the package, taken as they are: runs of any seed and world then stand on the same ones."""

from __future__ import annotations

from collections.abc import Sequence

from modalign.config.meaning import backbone_meaning
from modalign.config.places import shipped_runs
from modalign.config.schema import Settings
from modalign.errors import ModalignError
from modalign.runs.identity import differences
from modalign.runs.manifest import Manifest, find_manifest


def shipped_backbones(settings: Settings, stages: Sequence[str]) -> list[Manifest]:
    """The manifest of the shipped run of each stage; ModalignError where there is none, or it made another model."""
    found = [m for folder in sorted(shipped_runs().iterdir()) if (m := find_manifest(folder)) is not None]
    chosen = []
    for stage in stages:
        manifest = next((m for m in found if m.stage == stage), None)
        if manifest is None:
            raise ModalignError(
                f"model.backbones_from=shipped: no run of {stage} ships with this package "
                f"({', '.join(m.name for m in found) or 'none at all'}); leave the setting out and it is trained"
            )
        wanted = backbone_meaning(settings, tuple(manifest.modalities["seen"]))
        made = {key: manifest.spec[key] for key in wanted}
        if changed := differences(made, wanted):
            raise ModalignError(
                f"model.backbones_from=shipped: {manifest.name} was made with {changed[0].replace('!=', 'and not')}; "
                f"leave the setting out and {stage} is trained"
            )
        chosen.append(manifest)
    return chosen
