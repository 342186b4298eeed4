"""Lightning's door to our checkpoints: weights by part as safetensors with digests, the rest beside them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.plugins.io import CheckpointIO

from modalign.models.parts import part_of
from modalign.runs.checkpoint import load_checkpoint, save_checkpoint
from modalign.runs.snapshot import Snapshot
from modalign.runs.writer import Writer

# What an engine hands over that has gathered its shards: these entries are copies already.
GATHERED = ("state_dict", "optimizer_states")


class PartCheckpointIO(CheckpointIO):
    """Writes and reads `checkpoints/step-N/` folders; atomic, verified, only what trained.

    Where the writer works in the background it gets a copy, and the training goes on.
    """

    def __init__(self, final_step: int, keep_every: int = 0, writer: Writer | None = None) -> None:
        self.final_step = final_step
        self.keep_every = keep_every
        self.writer = writer or Writer()

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write Lightning's dict, or begin to; `storage_options` names the entries that nobody changes any more."""
        if not self.writer.background:
            self.writer(lambda: self._write(checkpoint, path))
            return
        kept = {key: value for key, value in checkpoint.items() if key in (storage_options or ())}
        copied = Snapshot({key: value for key, value in checkpoint.items() if key not in kept})
        self.writer(lambda: self._write({**copied.arrive(), **kept}, path))

    def _write(self, checkpoint: Mapping[str, Any], path: Any) -> None:
        """Split the weights by part; everything else of Lightning's dict is the state."""
        state = dict(checkpoint)
        tensors: dict[str, dict[str, Any]] = {}
        for name, tensor in state.pop("state_dict").items():
            tensors.setdefault(part_of(name), {})[name] = tensor
        step = int(state["global_step"])
        final = step >= self.final_step
        keep = 0 if final else 2
        save_checkpoint(Path(path).parent, step, tensors, state, final=final, keep=keep, keep_every=self.keep_every)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Verify and read; returns what Lightning wrote."""
        loaded = load_checkpoint(Path(path))
        return {**loaded.state, "state_dict": loaded.flat()}

    def remove_checkpoint(self, path: Any) -> None:
        """Delete one checkpoint folder."""
        shutil.rmtree(path)
