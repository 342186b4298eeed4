"""Objects from `_target_` dicts: the dotted path is the registry, and only packages that are trusted may be named."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from modalign.errors import ModalignError, unknown_name
from modalign.targets import locate


def build(target: dict[str, Any], where: str, **extra: Any) -> Any:
    """Call the `_target_` of a config dict with its other keys and `extra`; a wrong name or key is told in one line."""
    factory, arguments = resolve(target, where, **extra)
    try:
        return factory(**arguments)
    except (TypeError, ValueError) as error:
        raise ModalignError(f"{where} ({target['_target_']}): {error}") from error


def resolve(target: dict[str, Any], where: str, **extra: Any) -> tuple[Callable[..., Any], dict[str, Any]]:
    """What `build` would call, and with what: the names are checked, nothing is built."""
    path = target.get("_target_")
    if not isinstance(path, str):
        raise ModalignError(f"{where}: needs '_target_', the dotted path of what to build")
    factory = locate(path, where)
    arguments = {key: value for key, value in target.items() if key not in {"_target_", "part"}} | extra
    accepted = inspect.signature(factory).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in accepted.values()):
        for key in arguments:
            if key not in accepted:
                raise unknown_name("setting", key, accepted, f"{where} ({path})")
    missing = [n for n, p in accepted.items() if p.default is p.empty and p.kind in _NAMED and n not in arguments]
    if missing:
        raise ModalignError(f"{where} ({path}): missing {', '.join(missing)}")
    return factory, arguments


_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
