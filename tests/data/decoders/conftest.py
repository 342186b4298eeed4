"""One small real file of every medium."""

import io

import av
import numpy as np
import pytest
import soundfile
from PIL import Image


def encode(array, kind, **settings):
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind, **settings)
    return file.getvalue()


def encode_npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def encode_video(frames, rate=10):
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def encode_sound(wave, rate_hz, kind="FLAC"):
    file = io.BytesIO()
    soundfile.write(file, wave, rate_hz, format=kind)
    return file.getvalue()


def tone(hz, rate_hz=16000, seconds=1.0):
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(int(rate_hz * seconds)) / rate_hz)


@pytest.fixture
def files():
    """A file of every type that is decoded."""
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    cloud = np.concatenate([rng.normal(size=(50, 3)), rng.random((50, 3))], axis=1).astype(np.float32)
    ply = b"ply\nformat binary_little_endian 1.0\nelement vertex 50\n" + b"".join(
        b"property float %s\n" % name for name in (b"x", b"y", b"z", b"red", b"green", b"blue")
    )
    npz = io.BytesIO()
    np.savez(npz, points=cloud)
    return {
        "jpg": encode(picture, "JPEG"),
        "png": encode(picture, "PNG"),
        "webp": encode(picture, "WEBP"),
        "depth": encode(rng.integers(0, 5000, (20, 30), dtype=np.uint16), "PNG"),
        "mp4": encode_video([np.full((32, 32, 3), 20 * number, np.uint8) for number in range(12)]),
        "flac": encode_sound(tone(440), 16000),
        "wav": encode_sound(tone(440), 16000, "WAV"),
        "ogg": encode_sound(tone(440), 16000, "OGG"),
        "mp3": encode_sound(tone(440), 16000, "MP3"),
        "ply": ply + b"end_header\n" + cloud.tobytes(),
        "npz": npz.getvalue(),
        "cloud": encode_npy(cloud),
        "series": encode_npy(rng.normal(size=(40, 6))),
        "csv": b"ax,ay\n1,2\n3.5,-4e-1\n",
        "vector": encode_npy(rng.normal(size=30)),
        "map": encode_npy(rng.normal(size=(10, 14))),
        "stack": encode_npy(rng.normal(size=(9, 10, 14, 2))),
    }


@pytest.fixture
def npy():
    """Encode an array as .npy."""
    return encode_npy


@pytest.fixture
def picture_file():
    """Encode an array as a picture."""
    return encode


@pytest.fixture
def video_file():
    """Encode frames as H.264 in MP4."""
    return encode_video


@pytest.fixture
def sound_file():
    """Encode a wave as a sound file."""
    return encode_sound
