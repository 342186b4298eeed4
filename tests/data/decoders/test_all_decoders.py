"""What holds for every decoder: float32 or 8-bit levels, the same without a generator, picklable, and damage as
ValueError alone."""

import pickle
import random

import numpy as np
import pytest
import torch

from modalign.data import decoders
from modalign.data.decoding import standardised
from modalign.errors import ModalignError

CASES = {
    "jpg": (decoders.ImageDecoder(16), (3, 16, 16)),
    "png": (decoders.ImageDecoder(16, scale=(0.5, 1)), (3, 16, 16)),
    "webp": (decoders.ImageDecoder(16), (3, 16, 16)),
    "depth": (decoders.DepthDecoder(16, max_m=5), (3, 16, 16)),
    "mp4": (decoders.VideoDecoder(4, 16), (4, 3, 16, 16)),
    "flac": (decoders.SpectrogramDecoder(8000, 32, 90), (1, 32, 90)),
    "wav": (decoders.SpectrogramDecoder(16000, 40, 120), (1, 40, 120)),
    "ogg": (decoders.SpectrogramDecoder(), (1, 128, 1024)),
    "mp3": (decoders.SpectrogramDecoder(), (1, 128, 1024)),
    "ply": (decoders.PointDecoder(20), (20, 6)),
    "npz": (decoders.PointDecoder(80), (80, 6)),
    "cloud": (decoders.PointDecoder(50), (50, 6)),
    "series": (decoders.SeriesDecoder(32, 6), (6, 32)),
    "csv": (decoders.SeriesDecoder(5, 2), (2, 5)),
    "vector": (decoders.VectorDecoder(), (30,)),
    "map": (decoders.MapDecoder((7, 9)), (1, 7, 9)),
    "stack": (decoders.FramesDecoder(4, (5, 7), channels=2), (4, 2, 5, 7)),
}


@pytest.mark.parametrize("name", CASES)
def test_a_decoder_gives_float32_or_levels_of_the_declared_shape(files, name):
    decoder, shape = CASES[name]
    value = decoder(files[name], np.random.default_rng(0))
    assert value.dtype == (torch.uint8 if hasattr(decoder, "standard") else torch.float32)
    assert standardised(decoder, value).dtype == torch.float32
    assert value.shape == shape
    assert decoder.shape in (shape, None)
    assert value.is_contiguous()
    assert value.isfinite().all()


@pytest.mark.parametrize("name", CASES)
def test_the_same_generator_or_none_gives_the_same(files, name):
    decoder, _ = CASES[name]
    again = pickle.loads(pickle.dumps(decoder))
    assert torch.equal(decoder(files[name]), again(files[name], None))
    one, other = (d(files[name], np.random.default_rng(5)) for d in (decoder, again))
    assert torch.equal(one, other)


@pytest.mark.parametrize("name", CASES)
def test_damaged_files_raise_valueerror_and_nothing_else(files, name):
    decoder, _ = CASES[name]
    draw, sound, refused = random.Random(0), files[name], []
    for trial in range(40):
        broken = bytearray(sound)
        if trial % 2:
            for _ in range(4):
                broken[draw.randrange(len(broken))] ^= 1 << draw.randrange(8)
        else:
            del broken[draw.randrange(len(broken)) :]
        try:
            decoder(bytes(broken), None)
        except ValueError as error:
            refused.append(str(error))
    assert len(refused) >= 5
    assert not any("\n" in reason for reason in refused)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("data", [b"", b"nonsense", b"\x80\x04\x95cposix\nsystem\n", b"PK\x03\x04zip", b"\x93NUMPY"])
def test_other_bytes_are_refused(name, data):
    with pytest.raises(ValueError, match="not "):
        CASES[name][0](data, None)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: decoders.ImageDecoder(0), "size_px must be a whole number of at least 1, not 0"),
        (lambda: decoders.ImageDecoder("48"), "size_px must be a whole number of at least 1, not '48'"),
        (lambda: decoders.ImageDecoder(48, std=(1, 0, 1)), r"std must be above zero, not \(1, 0, 1\)"),
        (lambda: decoders.VideoDecoder(-1, 48), "num_frames must be"),
        (lambda: decoders.SpectrogramDecoder(hop_s=0), "hop_s must be above zero"),
        (lambda: decoders.SpectrogramDecoder(num_mels=0), "num_mels must be"),
        (lambda: decoders.DepthDecoder(48, max_m=-3), "max_m must be above zero"),
        (lambda: decoders.PointDecoder(1.5), "num_points must be a whole number"),
        (lambda: decoders.SeriesDecoder(10, 3, std=[1, 2]), "std has 2 values for 3 channels"),
        (lambda: decoders.SeriesDecoder(10, 3, mode="crpo"), "unknown mode 'crpo' .*did you mean 'crop'"),
        (lambda: decoders.VectorDecoder(std="wide"), "std must be above zero, not 'wide'"),
        (lambda: decoders.MapDecoder((0, 5)), "height must be"),
        (lambda: decoders.FramesDecoder(True, (5, 5)), "num_frames must be"),
    ],
)
def test_settings_that_cannot_be_are_refused_when_built(build, reason):
    with pytest.raises(ModalignError, match=reason):
        build()
