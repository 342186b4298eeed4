"""The identity of a run: a digest of every setting that changes its results, and the folder name that carries it."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from modalign.errors import ModalignError

SHORT = 8
MAX_NAME = 80


def identity(spec: Mapping[str, Any]) -> str:
    """SHA-256 (64 hex digits) of `spec` in canonical form: key order, and tuple or list, make no difference.

    Raises TypeError for what has no canonical form or does not belong: paths, sets, objects, keys that are no text.
    """
    return hashlib.sha256(canonical(spec)).hexdigest()


def canonical(spec: Any) -> bytes:
    """`spec` as JSON with sorted keys and no spaces; floats by their shortest exact form."""
    _require_plain(spec, "spec")
    return json.dumps(spec, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True).encode()


def run_name(stage: str, modalities: Sequence[str], identity: str) -> str:
    """`<stage>-<modalities joined by +>-<8 hex>`; a long list of modalities is cut, as the digest tells runs apart."""
    for name in (stage, *modalities):
        if not re.fullmatch(r"[A-Za-z0-9_.]+", name) or name.startswith("."):
            raise ModalignError(f"'{name}' cannot name a run folder: use letters, digits, '_' and '.' only")
    kept = list(modalities)
    while len("+".join(kept)) > MAX_NAME and len(kept) > 1:
        kept.pop()
    if len(kept) < len(modalities):
        kept.append(f"{len(modalities) - len(kept)}more")
    return "-".join([stage, *(["+".join(kept)] if kept else []), identity[:SHORT]])


def differences(spec: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The settings in which two specs differ, as `dotted.key: this != that`, in order of key."""
    left, right = _flat(spec), _flat(other)
    absent = "(absent)"
    return [
        f"{key}: {left.get(key, absent)} != {right.get(key, absent)}"
        for key in sorted(left.keys() | right.keys())
        if left.get(key, absent) != right.get(key, absent)
    ]


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping) and value:
        return {
            key: leaf
            for name, child in value.items()
            for key, leaf in _flat(child, f"{prefix}.{name}" if prefix else str(name)).items()
        }
    if isinstance(value, (list, tuple)) and any(isinstance(child, Mapping) for child in value):
        return {
            key: leaf for place, child in enumerate(value) for key, leaf in _flat(child, f"{prefix}.{place}").items()
        }
    return {prefix: list(value) if isinstance(value, tuple) else value}


def _require_plain(value: Any, where: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise TypeError(f"{where} is {value}: an identity holds finite numbers only")
    if value is None or type(value) in (str, int, float, bool):
        return
    if isinstance(value, dict):
        for key, child in value.items():
            if type(key) is not str:
                raise TypeError(f"{where} has the key {key!r}: an identity has text as keys")
            _require_plain(child, f"{where}.{key}")
        return
    if isinstance(value, (list, tuple)):
        for index, child in enumerate(value):
            _require_plain(child, f"{where}[{index}]")
        return
    raise TypeError(f"{where} is {type(value).__name__}: an identity holds text, numbers, lists and dicts only")
