"""What a dotted path in a configuration or a recipe may name: classes and functions of this package, and of packages
that the person at the terminal trusts. A configuration is data: it cannot allow itself to run code.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from modalign.errors import ModalignError, unknown_name

OURS = "modalign"
# Names of packages or modules, with commas between; from the environment alone, so that no file can set it.
VARIABLE = "MODALIGN_PACKAGES"
KEY = "_target_"


def trusted_packages() -> tuple[str, ...]:
    """This package, and those that the environment names."""
    given = (name.strip() for name in os.environ.get(VARIABLE, "").split(","))
    return (OURS, *(name for name in given if name))


def check_trusted(path: str, where: str) -> None:
    """ModalignError unless a trusted package holds what the path names."""
    if not _trusted(path):
        package = path.partition(".")[0] or "my_package"
        raise ModalignError(
            f"{where}: {KEY} '{path}' is outside the allowed packages ({', '.join(trusted_packages())}); "
            f"where you trust it: {VARIABLE}={package}"
        )


def is_own(path: str) -> bool:
    """Whether it names something of a package that is trusted and not this one."""
    return _trusted(path) and not path.startswith(f"{OURS}.")


def locate(path: str, where: str) -> Any:
    """The class or function at a dotted path of a trusted package."""
    check_trusted(path, where)
    module_name, _, name = path.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        hint = "; is its folder on PYTHONPATH, or the package installed?" if is_own(path) else ""
        raise ModalignError(f"{where}: {KEY} '{path}': no module {error.name}{hint}") from None
    if not hasattr(module, name):
        known = [n for n, value in vars(module).items() if not n.startswith("_") and _is_there(value)]
        raise unknown_name(KEY, path, [f"{module_name}.{n}" for n in known], where)
    found = getattr(module, name)
    # What a module merely imports is reached through it too, and is no part of the package.
    if not _is_there(found):
        packages = ", ".join(f"{package}.*" for package in trusted_packages())
        raise ModalignError(f"{where}: {KEY} '{path}' is not a class or function of {packages}")
    return found


def own_code(config: Mapping[str, Any]) -> dict[str, str]:
    """SHA-256 of the files of own modules that a configuration names, by module; what else they import is not in it."""
    found = {}
    for path in sorted(set(_paths(config))):
        module = path.rpartition(".")[0]
        if is_own(path) and (file := _file(module)) is not None:
            found[module] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


def _is_there(value: Any) -> bool:
    return callable(value) and _trusted(f"{getattr(value, '__module__', '')}.")


def _trusted(path: str) -> bool:
    return any(path.startswith(f"{package}.") for package in trusted_packages())


def _paths(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(path := value.get(KEY), str):
            yield path
        for child in value.values():
            yield from _paths(child)
    elif isinstance(value, (list, tuple)):
        for child in value:
            yield from _paths(child)


def _file(module: str) -> Path | None:
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:  # of the package that should hold it
        return None
    return Path(found.origin) if found and found.origin and Path(found.origin).is_file() else None
