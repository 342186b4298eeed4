"""Checkpoints as W&B's artifacts: the parent's is used, the run's own is logged, so that W&B draws the lineage."""

from __future__ import annotations

import json
from typing import Any

from modalign.runs.manifest import Manifest

TYPE = "checkpoint"
FILE = "checkpoint.json"


def use_parent(run: Any, manifest: Manifest) -> None:
    """Say that the run grew from its parent's checkpoint; nothing where it has no parent."""
    if manifest.parent is None:
        return
    artifact = checkpoint_artifact(manifest.parent["name"], manifest.parent["digest"])
    # The public call waits for a server, and so refuses to work offline; this one leaves a record that is sent later.
    run._log_artifact(artifact, is_user_created=True, use_after_commit=True)


def log_checkpoint(run: Any, manifest: Manifest) -> None:
    """Log the checkpoint that the run ended with, as `latest` of the run's name."""
    if manifest.checkpoint is not None:
        artifact = checkpoint_artifact(manifest.name, manifest.checkpoint["digest"])
        run.log_artifact(artifact, aliases=["latest", f"step-{manifest.steps}"])


def checkpoint_artifact(name: str, digest: str) -> Any:
    """The artifact of a run's checkpoint: one small file with its name and digest; the weights stay where they are.

    The same checkpoint makes the same artifact wherever it is named, so that a child and its parent meet in W&B.
    """
    import wandb

    artifact = wandb.Artifact(artifact_name(name), TYPE, metadata={"run": name, "digest": digest})
    with artifact.new_file(FILE, mode="w") as file:
        json.dump({"run": name, "digest": digest}, file)
    return artifact


def artifact_name(run: str) -> str:
    """The run's name in the letters that W&B takes."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in run)
