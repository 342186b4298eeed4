"""The film camera: H.264 in MP4 of one thing that crosses the picture."""

from __future__ import annotations

import io

import av
import numpy as np

from modalign.world.difficulty import Difficulty
from modalign.world.scene import SPEEDS, Scene
from modalign.world.sensors.paint import background, paint_thing, tint, to_pixels
from modalign.world.sensors.silhouettes import SIZE_PX
from modalign.world.sensors.texture import grain

NUM_FRAMES = 5
RATE_HZ = 5
# Way between the first and the last frame, px.
WAYS_PX = (9.0, 25.0)
DIRECTIONS = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "up": (0.0, -1.0), "down": (0.0, 1.0)}
_ENCODER = {
    "preset": "superfast",
    "qp": "20",
    "threads": "1",
    "x264-params": "rc-lookahead=0:sync-lookahead=0:bframes=0",
}


def frames_of(scene: Scene, difficulty: Difficulty, rng: np.random.Generator) -> np.ndarray:
    """uint8 frames [5, 48, 48, 3]."""
    ground = background(rng, difficulty)
    rgb = tint(rng, scene["colour"], difficulty)
    way = max(2.0, difficulty.level(rng, SPEEDS.index(scene["speed"]), WAYS_PX))
    radius = 8.0 + 0.7 * difficulty.jitter * float(np.clip(rng.standard_normal(), -2, 2))
    middle = (SIZE_PX - 1) / 2 + 2.0 * difficulty.jitter * rng.standard_normal(2)
    direction = np.array(DIRECTIONS[scene["motion"]]) + 0.08 * difficulty.jitter * rng.standard_normal(2)
    angle, turn = 0.12 * difficulty.jitter * rng.standard_normal(2)
    frames = ground + 6 * difficulty.noise * grain(rng, (NUM_FRAMES, SIZE_PX, SIZE_PX, 3))
    for index, part in enumerate(np.linspace(-0.5, 0.5, NUM_FRAMES)):
        x, y = middle + direction * way * part
        paint_thing(frames[index], scene["shape"], rgb, (float(x), float(y)), radius, float(angle + turn * part))
    return to_pixels(frames)


def encode_mp4(frames: np.ndarray, rate_hz: int) -> bytes:
    """H.264 (yuv420p) in MP4 of uint8 frames [T, H, W, 3]."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate_hz, options=_ENCODER)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return buffer.getvalue()


def render(
    scene: Scene, difficulty: Difficulty, rng: np.random.Generator, seed: int = 0, subject: str | None = None
) -> bytes:
    """MP4, 5 frames of 48 x 48 at 5 Hz."""
    return encode_mp4(frames_of(scene, difficulty, rng), RATE_HZ)
