"""Lightning's door to our checkpoints: weights by part as safetensors with digests, the rest beside them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from lightning.pytorch.plugins.io import CheckpointIO

from modalign.models.parts import part_of
from modalign.runs.checkpoint import load_checkpoint, save_checkpoint


class PartCheckpointIO(CheckpointIO):
    """Writes and reads `checkpoints/step-N/` folders; atomic, verified, only what trained."""

    def __init__(self, final_step: int, keep_every: int = 0) -> None:
        self.final_step = final_step
        self.keep_every = keep_every

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
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
