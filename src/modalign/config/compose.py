"""From the command line to checked settings: Hydra composes, pydantic checks, and both speak in one line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from modalign.config.places import conf_folder
from modalign.config.schema import Settings
from modalign.config.search_path import own_files_first
from modalign.errors import ModalignError, unknown_name


def compose_settings(arguments: Sequence[str], config_dir: Path | None = None) -> tuple[Settings, dict[str, Any]]:
    """Settings and the resolved plain config for `arguments` (Hydra overrides); `config_dir` adds own YAML files."""
    return check(compose_config(arguments, config_dir))


def check(config: DictConfig) -> tuple[Settings, dict[str, Any]]:
    """Resolve and validate a composed config."""
    try:
        plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        raise ModalignError(f"configuration: {first_line(error)}") from None
    plain.pop("hydra", None)
    try:
        return Settings.model_validate(plain), plain
    except ValidationError as error:
        raise ModalignError(_told(error, plain)) from None


def compose_config(arguments: Sequence[str], config_dir: Path | None = None) -> DictConfig:
    """Hydra's composition with every modality file of the model's set, errors translated."""
    try:
        return _composed(arguments, config_dir)
    except (HydraException, OmegaConfBaseException) as error:
        if (complete := with_pluses(arguments, config_dir)) != list(arguments):
            return compose_config(complete, config_dir)
        raise _translated(error, arguments, config_dir) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{mark.name} line {mark.line + 1}" if mark else "a file of the configuration"
        raise ModalignError(f"{where} is not valid YAML: {error.problem or error.context}") from None
    except RecursionError:
        raise ModalignError(
            f"--config-dir {config_dir}: a file there stands in for the shipped one of its name, so it cannot name "
            f"itself in its defaults: give it another name, or copy what it needs"
        ) from None


def with_pluses(
    arguments: Sequence[str], config_dir: Path | None = None, like: Sequence[str] | None = None
) -> list[str]:
    """The arguments, with Hydra's two pluses before settings that stand at a default which no YAML names.

    What YAMLs name is what they name for `like`: of a sweep, one of its commands.
    """
    try:
        keys = {a: OverridesParser.create().parse_override(a).key_or_group for a in arguments if a[:1] not in "+~"}
    except HydraException:
        return list(arguments)
    known = set(setting_names(arguments if like is None else like, config_dir))
    return [f"++{a}" if a in keys and keys[a] not in known and _declared(keys[a], known) else a for a in arguments]


def _declared(key: str, known: Collection[str]) -> bool:
    """Whether a YAML names it, or it is a field of the schema in a place that is declared."""
    room, _, leaf = key.rpartition(".")
    return key in known or (
        bool(room) and leaf in getattr(_kind_at(room), "model_fields", {}) and _declared(room, known)
    )


def _composed(arguments: Sequence[str], config_dir: Path | None) -> DictConfig:
    offer_modalities(arguments, config_dir)
    with own_files_first(config_dir), initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return compose("config", overrides=list(arguments))


def offer_modalities(arguments: Sequence[str], config_dir: Path | None = None) -> None:
    """Give Hydra the option that config.yaml chooses as `modality_files: all`: every YAML of conf/modalities/<set>/.

    A file there is all that a modality needs; what an experiment changes of it comes later in the list, and wins.
    """
    folder = modality_set(arguments, config_dir)
    files = [{f"/modalities/{folder}@modalities.{name}": name} for name in modality_names(folder, config_dir)]
    ConfigStore.instance().store(group="modality_files", name="all", node={"defaults": files}, package="_global_")


def modality_names(folder: str, config_dir: Path | None = None) -> list[str]:
    """Names of the modalities declared in a set, the shipped ones and those of `config_dir`."""
    return options(f"modalities/{folder}", config_dir)


def modality_set(arguments: Sequence[str], config_dir: Path | None = None) -> str:
    """The set named by the chosen model's YAML (`model=`, possibly through `experiment=`)."""
    chosen = chosen_group("model", arguments, config_dir) or _default("model", config_dir)
    for root in _roots(config_dir):
        path = root / "model" / f"{chosen}.yaml"
        if path.is_file():
            return str(_yaml(path).get("modality_set", chosen))
    raise unknown_name("model", chosen, options("model", config_dir))


def chosen_group(group: str, arguments: Sequence[str], config_dir: Path | None = None) -> str | None:
    """The last `group=name` on the command line, or in the experiment that it names."""
    found = None
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key != "experiment":
            continue
        path = next((p for r in _roots(config_dir) if (p := r / "experiment" / f"{value}.yaml").is_file()), None)
        if path is not None:
            for entry in _yaml(path).get("defaults", []):
                if isinstance(entry, dict) and f"override /{group}" in entry:
                    found = str(entry[f"override /{group}"])
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key == group and value:
            found = value
    return found


def _default(group: str, config_dir: Path | None) -> str:
    """What config.yaml chooses of a group; one's own config.yaml stands in for the shipped one."""
    path = next(path for root in _roots(config_dir) if (path := root / "config.yaml").is_file())
    chosen = (entry[group] for entry in _yaml(path).get("defaults", []) if isinstance(entry, dict) and group in entry)
    return str(next(chosen, "embedded"))


def options(group: str, config_dir: Path | None = None) -> list[str]:
    """The YAML files of a group, by name: the shipped ones and those of `config_dir`."""
    return sorted({path.stem for root in _roots(config_dir) for path in (root / group).glob("*.yaml")})


def _yaml(path: Path) -> dict[str, Any]:
    """A file's own content; it is opened by name, so that what is wrong in it is told with its name."""
    with path.open(encoding="utf-8") as file:
        return yaml.safe_load(file) or {}


def _roots(config_dir: Path | None) -> list[Path]:
    """The folders of groups, somebody's own first."""
    return [*([config_dir] if config_dir else []), conf_folder()]


def _translated(error: Exception, arguments: Sequence[str], config_dir: Path | None) -> ModalignError:
    for argument in arguments:
        try:
            parsed = OverridesParser.create().parse_override(argument)
        except HydraException:
            return ModalignError(f"cannot read '{argument}': an override is key=value, quoted where it holds spaces")
        group, value = parsed.key_or_group, parsed.value()
        known = options(group, config_dir)
        if known and isinstance(value, str) and value not in known:
            return unknown_name(group, value, known)
    text = str(error)
    if found := re.search(r"Ambiguous value for argument '([^'=]+)=([^']*)'", text):
        return ModalignError(
            f"'{found[1]}={found[2]}': a list is written in brackets, {found[1]}=[{found[2]}]; to run one after "
            f"another, add --multirun"
        )
    if found := re.search(r"Could not override '([^']+)'|full_key: (\S+)|Key '([^']+)' is not in struct", text):
        key = next(part for part in found.groups() if part)
        return _unknown_key(key, arguments, config_dir)
    return ModalignError(f"configuration: {first_line(error)}")


def _unknown_key(key: str, arguments: Sequence[str], config_dir: Path | None) -> ModalignError:
    known = setting_names(arguments, config_dir)
    if key in known:  # the setting is there: what is not is a name inside the mapping that it was given
        key = _inside(key, arguments, known)
    while "." in (room := key.rpartition(".")[0]) and not _declared(room, known):
        key = room
    leaf = key.rsplit(".", 1)[-1]
    inside = [name.rsplit(".", 1)[-1] for name in known if name.rpartition(".")[0] == room]
    if _takes_new_names(room) and not difflib.get_close_matches(leaf, inside, n=1):
        return ModalignError(f"'{leaf}' is not in {room} yet: a new name is added with a plus, +{key}=…")
    fields = getattr(_kind_at(room), "model_fields", {})
    if leaf in fields:  # inside a mapping that was given whole
        return ModalignError(f"'{key}' stands at its default, which no YAML names: set it by its own name, {key}=…")
    inside = list(dict.fromkeys([*inside, *fields]))
    if inside:
        return unknown_name("setting", leaf, inside, room or "the configuration")
    same_leaf = [name for name in known if name.rsplit(".", 1)[-1] == leaf]
    nearest = same_leaf or difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"did you mean '{nearest[0]}'?" if nearest else "see python train.py --help"
    return ModalignError(f"unknown setting '{key}': {hint}")


def _inside(key: str, arguments: Sequence[str], known: Sequence[str]) -> str:
    """The first name below `key` that `arguments` give it and that is not known."""
    for argument in arguments:
        parsed = OverridesParser.create().parse_override(argument)
        if parsed.key_or_group == key and isinstance(value := parsed.value(), dict):
            return next((f"{key}.{name}" for name in value if f"{key}.{name}" not in known), key)
    return key


def _takes_new_names(room: str) -> bool:
    """Whether the setting is a mapping of names that nobody declares beforehand, such as data.align."""
    kind = _kind_at(room)
    return get_origin(kind) is dict and get_args(kind)[-1] is not Any


def _kind_at(room: str) -> Any:
    """The schema's type of a setting, None where it knows none."""
    kind: Any = Settings
    for part in room.split(".") if room else ():
        fields = getattr(kind, "model_fields", {})
        kind = fields[part].annotation if part in fields else (get_args(kind) or (None,))[-1]
    return kind


def setting_names(arguments: Sequence[str], config_dir: Path | None = None) -> list[str]:
    """Dotted names of all settings, composed without the value overrides of `arguments`."""
    groups = [a for a in arguments if any((root / a.partition("=")[0]).is_dir() for root in _roots(config_dir))]
    try:
        config = _composed(groups, config_dir)
    except (HydraException, OmegaConfBaseException, ModalignError):
        return []
    return list(_dotted(OmegaConf.to_container(config, resolve=False)))


def _dotted(value: Any, prefix: str = "") -> list[str]:
    if not isinstance(value, dict):
        return [prefix]
    names = [prefix] if prefix else []
    for key, child in value.items():
        names.extend(_dotted(child, f"{prefix}.{key}" if prefix else str(key)))
    return names


def _told(error: ValidationError, plain: dict[str, Any]) -> str:
    first = error.errors()[0]
    place = [str(part) for part in first["loc"] if not str(part).startswith(("tuple", "literal", "function", "constr"))]
    name = ".".join(place)
    if first["type"] == "extra_forbidden":
        if len(place) == 1 and isinstance(plain.get(place[0]), dict) and options(place[0]):
            return f"{place[0]}=…: the first line of the file that it names must be '{_header(place[0])}'"
        siblings = _siblings(place)
        return str(unknown_name("setting", place[-1], siblings, ".".join(place[:-1]) or "the configuration"))
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    given = "" if first["type"] == "missing" else f", got {first['input']!r}"
    message = first["msg"].removeprefix("Value error, ").replace("Input should be", "should be")
    return f"{name}: {message[0].lower() + message[1:]}{given}{more}"


def _header(group: str) -> str:
    """The first line of the group's shipped files, which says where their settings belong."""
    first = (conf_folder() / group / f"{options(group)[0]}.yaml").read_text(encoding="utf-8").partition("\n")[0]
    return first if first.startswith("# @package") else "# @package _global_"


def _siblings(place: list[str]) -> list[str]:
    model: Any = Settings
    for part in place[:-1]:
        fields = getattr(model, "model_fields", None)
        annotation = fields[part].annotation if fields and part in fields else model
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        model = next((c for c in candidates if hasattr(c, "model_fields")), annotation)
    return list(getattr(model, "model_fields", {}))


def first_line(error: Exception) -> str:
    """The first line of a library's message, without its type name."""
    return str(error).strip().split("\n")[0]
