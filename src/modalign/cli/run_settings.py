"""The settings of a run that exists, with a few of them changed on the command line."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf

from modalign.config.compose import check, options
from modalign.config.places import conf_folder
from modalign.config.schema import Settings
from modalign.errors import ModalignError, unknown_name
from modalign.runs.manifest import Manifest

# The rest is what the run is: other values would be another run.
CHANGEABLE = ("evaluation", "paths", "trainer", "data")


def changed_settings(manifest: Manifest, overrides: Sequence[str], world: str | None = None) -> Settings:
    """The manifest's settings with `overrides` (key=value of evaluation, paths, trainer, data) and another world.

    As in training, a plus before the key adds a name that is not there yet.
    """
    plain = copy.deepcopy(manifest.config)
    for word in overrides:
        key, value, adds = _parsed(word)
        if key.partition(".")[0] not in CHANGEABLE or "." not in key:
            known = ", ".join(f"{name}.…" for name in CHANGEABLE)
            raise ModalignError(f"'{word}' cannot be changed for a run that is finished; what can: {known}")
        _put(plain, key, value, adds)
    if world is not None:
        if world not in options("world"):
            raise unknown_name("world", world, options("world"))
        plain["world"] = yaml.safe_load((conf_folder() / "world" / f"{world}.yaml").read_text())
    return check(OmegaConf.create(plain))[0]


def _parsed(word: str) -> tuple[str, Any, bool]:
    try:
        override = OverridesParser.create().parse_override(word)
        return override.key_or_group, override.value(), override.is_add() or override.is_force_add()
    except HydraException:
        raise ModalignError(f"cannot read '{word}': a setting is key=value, quoted where it holds spaces") from None


def _put(plain: dict[str, Any], key: str, value: Any, adds: bool) -> None:
    place: Any = plain
    *path, leaf = key.split(".")
    for name in path:
        if adds:
            place.setdefault(name, {})
        if not isinstance(place.get(name), dict):
            raise unknown_name("setting", name, place)
        place = place[name]
    if leaf not in place and not adds:
        raise unknown_name("setting", leaf, place, ".".join(path))
    place[leaf] = value
