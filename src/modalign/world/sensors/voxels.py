"""The brain scanner: voxels that answer a seen scene nonlinearly, noisily, and differently in each subject."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from modalign.errors import unknown_name
from modalign.world.difficulty import Difficulty
from modalign.world.scene import ATTRIBUTES, Scene
from modalign.world.sensors.files import npy_bytes

NUM_VOXELS = {"one": 320, "two": 384}
# What the scanner's voxels are tuned to; the rest of what a viewer sees is a nuisance of NUM_FREE numbers.
TUNED = ATTRIBUTES["fmri"]
NUM_FREE = 6
NUM_DRIFTS = 8
NOISE = 0.9
_WIDTH = sum(len(values) for values in TUNED.values())


@lru_cache(maxsize=16)
def response_of(seed: int, subject: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A subject's fixed response: tuning [V, 14], interactions [V, 14, 14], free tuning [V, 6], drifts [V, 8]."""
    if subject not in NUM_VOXELS:
        raise unknown_name("subject", subject, NUM_VOXELS, "the voxel sensor")
    num_voxels = NUM_VOXELS[subject]
    rng = np.random.default_rng([seed, 1000 + list(NUM_VOXELS).index(subject)])
    tuning = rng.standard_normal((num_voxels, _WIDTH)) * (rng.random((num_voxels, _WIDTH)) < 0.35)
    crossed = 0.5 * rng.standard_normal((num_voxels, _WIDTH, _WIDTH)) * (rng.random((num_voxels, _WIDTH, _WIDTH)) < 0.2)
    free = 0.5 * rng.standard_normal((num_voxels, NUM_FREE))
    return tuning, crossed, free, rng.standard_normal((num_voxels, NUM_DRIFTS)) / np.sqrt(NUM_DRIFTS)


def code_of(scene: Scene) -> np.ndarray:
    """The scene's tuned attributes, one-hot, side by side [14]."""
    return np.array([value == scene[name] for name, values in TUNED.items() for value in values], float)


def voxels_of(scene: Scene, difficulty: Difficulty, rng: np.random.Generator, seed: int, subject: str) -> np.ndarray:
    """float32 [V]: saturated responses plus drifts shared by voxels plus each voxel's own noise."""
    tuning, crossed, free, drifts = response_of(seed, subject)
    code = code_of(scene)
    drive = tuning @ code + np.einsum("vij,i,j->v", crossed, code, code, optimize=False)
    drive += free @ rng.standard_normal(NUM_FREE) * difficulty.jitter
    gain = 1 + 0.15 * difficulty.jitter * rng.standard_normal()
    shared = drifts @ rng.standard_normal(NUM_DRIFTS) * difficulty.clutter
    noise = rng.standard_normal(len(drive))
    return (gain * np.tanh(drive) + shared + NOISE * difficulty.noise * noise).astype(np.float32)


def render(
    scene: Scene, difficulty: Difficulty, rng: np.random.Generator, seed: int = 0, subject: str | None = None
) -> bytes:
    """.npy float32 [320] or [384], by subject."""
    return npy_bytes(voxels_of(scene, difficulty, rng, seed, subject or next(iter(NUM_VOXELS))))
