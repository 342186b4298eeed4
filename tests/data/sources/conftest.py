"""Small real media files, as published datasets hold them."""

import io
from functools import cache

import av
import numpy as np
import pytest
import soundfile
from PIL import Image


@cache
def picture(value=0, kind="JPEG", size=(24, 16)):
    rng = np.random.default_rng(value)
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (*size[::-1], 3), np.uint8)).save(file, kind)
    return file.getvalue()


@cache
def film(value=0):
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("h264", rate=5)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for number in range(4):
            pixels = np.full((32, 32, 3), (value * 20 + number * 10) % 255, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return file.getvalue()


@cache
def sound(value=0, kind="FLAC", rate_hz=8000):
    file = io.BytesIO()
    wave = 0.3 * np.sin(np.arange(rate_hz // 4) * (0.1 + 0.01 * value))
    soundfile.write(file, wave, rate_hz, format=kind)
    return file.getvalue()


def array(values):
    file = io.BytesIO()
    np.save(file, np.asarray(values))
    return file.getvalue()


class Media:
    """Makers of file contents, told apart by a number."""

    picture = staticmethod(picture)
    film = staticmethod(film)
    sound = staticmethod(sound)
    array = staticmethod(array)


@pytest.fixture(scope="session")
def media():
    return Media


def save_tiny_dpt(folder):
    """A DPT of random weights in the form in which transformers keeps models."""
    import torch
    from transformers import DPTConfig, DPTForDepthEstimation, DPTImageProcessor

    torch.manual_seed(0)
    config = DPTConfig(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=16,
        backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8, is_hybrid=False,
        reassemble_factors=[4, 2, 1, 0.5],
    )  # fmt: skip
    DPTForDepthEstimation(config).save_pretrained(folder)
    DPTImageProcessor(size={"height": 32, "width": 32}, ensure_multiple_of=16).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_dpt(tmp_path_factory):
    """The folder of such a model."""
    return save_tiny_dpt(tmp_path_factory.mktemp("dpt"))
