"""The group under which runs are logged, where somebody looks at several together."""

from __future__ import annotations

from collections.abc import Sequence

from modalign.runs.manifest import Manifest


def experiment_of(command: Sequence[str]) -> str | None:
    """The experiment that a command names: what its runs are grouped by."""
    named = [word.partition("=")[2] for word in command if word.partition("=")[0].lstrip("+") == "experiment"]
    return named[-1] if named and named[-1] not in ("", "null") else None


def group_of(manifest: Manifest) -> str | None:
    """The group under which a run was logged, or would be."""
    logger = manifest.config.get("logger") or {}
    return logger.get("group") or experiment_of(manifest.command)
