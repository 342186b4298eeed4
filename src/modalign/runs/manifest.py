"""The manifest of a run: what ran, from which parent, on what data, what trained, and what came of it."""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modalign.errors import ModalignError
from modalign.runs.files import write_atomic
from modalign.runs.redaction import redacted, redacted_message, redacted_words

FORMAT = 1
FILE = "manifest.json"
STATUSES = ("running", "finished", "failed", "interrupted")


@dataclass(slots=True)
class Manifest:
    """The contents of manifest.json; nested values are plain dicts and lists, as written.

    `spec` is what `identity` is the digest of; `reason` says why a run failed or was interrupted; keys that this
    version does not know are kept in `extra`.
    """

    name: str
    identity: str
    stage: str
    modalities: dict[str, list[str]] = field(default_factory=lambda: {"new": [], "seen": []})
    status: str = "running"
    command: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    spec: dict[str, Any] = field(default_factory=dict)
    code: dict[str, Any] = field(default_factory=dict)
    parent: dict[str, str] | None = None
    recipes: dict[str, dict[str, Any]] = field(default_factory=dict)
    consumed: dict[str, int] = field(default_factory=dict)
    holes: dict[str, dict[str, Any]] = field(default_factory=dict)
    parts: list[dict[str, Any]] = field(default_factory=list)
    start_values: list[dict[str, Any]] = field(default_factory=list)
    seed: int = 0
    versions: dict[str, str] = field(default_factory=dict)
    steps: int = 0
    checkpoint: dict[str, str] | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    reason: str | None = None
    format: int = FORMAT
    extra: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values as they are written: tuples as lists, paths as text, numbers that are not finite as null."""
        values = {item.name: getattr(self, item.name) for item in dataclasses.fields(self) if item.name != "extra"}
        return {"format": values.pop("format"), **_plain(values), **_plain(self.extra)}

    @property
    def shell_command(self) -> str:
        """The command that made the run as a shell takes it; empty where none is known."""
        python = ["python"] if self.command and self.command[0].endswith(".py") else []
        return shlex.join([*python, *self.command])

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Manifest:
        """The manifest that `to_dict` wrote; raises KeyError or TypeError where it is none."""
        known = {item.name for item in dataclasses.fields(cls)} - {"extra"}
        given = {key: value for key, value in values.items() if key in known}
        return cls(**given, extra={key: value for key, value in values.items() if key not in known})


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of the run in `folder`, wholly or not at all, and without the secrets of a command."""
    if manifest.status not in STATUSES:
        raise ValueError(f"status {manifest.status!r} is none of {STATUSES}")
    values = manifest.to_dict()
    values |= {"command": redacted_words(manifest.command), "reason": _redacted_reason(manifest.reason)}
    values |= {"config": redacted(values["config"]), "spec": redacted(values["spec"])}
    values["recipes"] = {name: redacted(recipe) for name, recipe in values["recipes"].items()}
    text = json.dumps(values, indent=2, allow_nan=False, ensure_ascii=False)
    write_atomic(Path(folder) / FILE, text.encode() + b"\n")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the run in `folder`; ModalignError where there is none or it cannot be read."""
    manifest = find_manifest(folder)
    if manifest is None:
        raise ModalignError(f"{folder} holds no run: there is no {FILE} in it; name a folder that train.py made")
    return manifest


def find_manifest(folder: Path) -> Manifest | None:
    """The manifest of the run in `folder`, None where there is none; ModalignError where it cannot be read."""
    path = Path(folder) / FILE
    try:
        values = json.loads(path.read_bytes())
        manifest = Manifest.from_dict(values)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ModalignError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise ModalignError(
            f"{path} is damaged ({error}): delete that run's folder and give the command again, or use fresh=true"
        ) from error
    if manifest.format > FORMAT:
        raise ModalignError(
            f"{path} has format {manifest.format}, this version of modalign reads up to {FORMAT}: update modalign"
        )
    return manifest


def _redacted_reason(reason: str | None) -> str | None:
    return None if reason is None else redacted_message(reason)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(child) for key, child in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(child) for child in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
