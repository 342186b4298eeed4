"""Weights that a name in the configuration brings and no run holds: are they still what they were?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from modalign.config.schema import Settings
from modalign.errors import ModalignError
from modalign.models.freezing import frozen_digest
from modalign.runs.folder import RunFolder
from modalign.runs.manifest import Manifest
from modalign.runs.sealed import newest_valid


def from_elsewhere(settings: Settings) -> tuple[str, ...]:
    """Parts whose weights come from a file, a hub or a seed when they are built, so that no run has to hold them."""
    whole = settings.model.encoders.items()
    found = [f"encoders.{n}" for n, t in whole if t.get("pretrained") or t.get("seed") is not None]
    return (*found, *(["llm"] if isinstance(settings.model.language_model.get("source"), str) else []))


def note_frozen(
    manifest: Manifest, before: Mapping[str, str], settings: Settings, folder: RunFolder, parent: RunFolder | None
) -> None:
    """Keep the digests of what is frozen in a run's manifest; ModalignError where named weights are not what they were:
    in the sitting that left a checkpoint in `folder`, or in the run's parent."""
    for part in manifest.parts:
        if not part["trains"]:
            part["digest"] = before.get(part["name"])
    earlier = folder.manifest() if newest_valid(folder.checkpoints) is not None else None
    named = from_elsewhere(settings)
    if earlier is not None:
        _compare(earlier, manifest.config, before, named, f"remove {folder.path} and begin it anew")
    if parent is not None and (known := parent.manifest()) is not None:
        _compare(known, manifest.config, before, named, f"make {known.name} again (remove its folder first)")


def refuse_other_weights(manifest: Manifest, model: nn.Module, settings: Settings) -> None:
    """ModalignError where a finished run's model was built from weights that are not those that it was made with."""
    named = from_elsewhere(settings)
    if not any(part["name"] in named and part.get("digest") for part in manifest.parts):
        return
    now = frozen_digest(model, named)
    _compare(manifest, {"model": settings.model.model_dump()}, now, named, "make the run again")


def _compare(
    known: Manifest, config: Mapping[str, Any], now: Mapping[str, str], named: Iterable[str], remedy: str
) -> None:
    for part in known.parts:
        name, was = part["name"], None if part["trains"] else part.get("digest")
        if name not in named or not was or _way(known.config, name) != _way(config, name) or _in_few_bits(config, name):
            continue
        found = now.get(name)
        if found and found != was:
            raise ModalignError(
                f"{name} is not what it was in {known.name}: the weights that it is read from have changed since "
                f"(SHA-256 {was[:8]} then, {found[:8]} now): put them back, or {remedy}"
            )


def _way(config: Mapping[str, Any], part: str) -> Any:
    """How a part's weights are named and kept."""
    model = config.get("model", {})
    if part != "llm":
        return model.get("encoders", {}).get(part.removeprefix("encoders."))
    return {key: model.get("language_model", {}).get(key) for key in ("source", "dtype", "bits")}


def _in_few_bits(config: Mapping[str, Any], part: str) -> bool:
    """A device may choose how it keeps them."""
    return part == "llm" and config.get("model", {}).get("language_model", {}).get("bits") is not None
