"""The state of every global random number generator, as plain values that a checkpoint can hold."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def capture_randomness() -> dict[str, Any]:
    """The states of Python's, numpy's and torch's generators, CUDA's of every visible device included."""
    version, words, gauss = random.getstate()
    numpy_state = np.random.get_state(legacy=False)
    assert isinstance(numpy_state, dict)  # as `legacy=False` promises
    words_of = numpy_state["state"]
    return {
        "python": [version, list(words), gauss],
        "numpy": {
            "kind": str(numpy_state["bit_generator"]),
            "key": torch.from_numpy(words_of["key"].astype(np.int64)),
            "pos": int(words_of["pos"]),
            "has_gauss": int(numpy_state["has_gauss"]),
            "gauss": float(numpy_state["gauss"]),
        },
        "torch": torch.get_rng_state(),
        "cuda": [state.cpu() for state in torch.cuda.get_rng_state_all()] if torch.cuda.is_available() else [],
    }


def restore_randomness(state: dict[str, Any]) -> None:
    """Set every generator as it was captured; CUDA's only where there are as many devices as then."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    kept = state["numpy"]
    key = kept["key"].numpy().astype(np.uint32)
    np.random.set_state((kept["kind"], key, kept["pos"], kept["has_gauss"], kept["gauss"]))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available() and torch.cuda.device_count() == len(state["cuda"]):
        torch.cuda.set_rng_state_all(state["cuda"])
