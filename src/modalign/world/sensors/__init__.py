"""The eight sensors: each turns a scene into the bytes of a real file."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from modalign.world.difficulty import Difficulty
from modalign.world.scene import Scene
from modalign.world.sensors import audio, depth, image, inertial, normals, points, video, voxels

# Render: (scene, difficulty, generator, world seed, subject or None) -> the file's bytes.
Render = Callable[[Scene, Difficulty, np.random.Generator, int, str | None], bytes]

RENDERERS: Mapping[str, Render] = {
    "image": image.render,
    "video": video.render,
    "point": points.render,
    "audio": audio.render,
    "depth": depth.render,
    "normal": normals.render,
    "imu": inertial.render,
    "fmri": voxels.render,
}

# By sensor: the people it was measured on, where a sample belongs to one of them.
SUBJECTS: Mapping[str, tuple[str, ...]] = {"fmri": tuple(voxels.NUM_VOXELS)}
