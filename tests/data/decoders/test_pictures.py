"""Pictures, depth maps, normal maps and video: the values that come out."""

import numpy as np
import pytest
import torch

from modalign.config.build import build
from modalign.data.decoders import DepthDecoder, ImageDecoder, NormalDecoder, StackDecoder, VideoDecoder
from modalign.data.decoding import standardised
from modalign.errors import ModalignError
from modalign.types import MediaBatch

PLAIN = {"mean": (0, 0, 0), "std": (1, 1, 1)}


def seen(decoder, file, rng=None):
    """What a model sees of a file."""
    return standardised(decoder, decoder(file, rng))


def test_levels_leave_the_decoder_and_are_standardised_on_the_device(picture_file):
    decoder = ImageDecoder(4, (0.5, 0.2, 0.0), (0.5, 0.1, 1.0))
    levels = decoder(picture_file(np.full((4, 4, 3), 51, np.uint8), "PNG"))
    assert levels.dtype == torch.uint8
    media = MediaBatch(levels[None], standard=decoder.standard).to("cpu")
    assert media.standard is None
    assert media.values[0, :, 2, 1].tolist() == pytest.approx([-0.6, 0.0, 0.2], abs=1e-6)
    assert media.to("cpu") == media


def test_pixels_are_standardised_channel_first(picture_file):
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[0, 1] = (255, 51, 0)
    value = seen(ImageDecoder(4, (0.5, 0.2, 0.0), (0.5, 0.1, 1.0)), picture_file(pixels, "PNG"))
    assert value[:, 0, 1].tolist() == pytest.approx([1, 0, 0], abs=1e-6)
    assert value[:, 3, 3].tolist() == pytest.approx([-1, -2, 0], abs=1e-6)


def test_the_centre_square_is_kept(picture_file):
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 255
    assert ImageDecoder(10, **PLAIN)(picture_file(pixels, "PNG")).min() == 255
    assert ImageDecoder(10, **PLAIN)(picture_file(pixels.transpose(1, 0, 2), "PNG")).min() == 255


@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_other_colour_modes_become_rgb(picture_file, mode):
    from PIL import Image

    array = np.asarray(Image.new("RGB", (6, 6), (200, 200, 200)).convert(mode))
    assert ImageDecoder(6)(picture_file(array, "PNG")).shape == (3, 6, 6)


def test_random_crops_stay_inside_and_vary(picture_file):
    picture = picture_file(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8), "PNG")
    decoder = ImageDecoder(16, **PLAIN, scale=(0.2, 1.0))
    crops = [decoder(picture, np.random.default_rng(seed)) for seed in range(8)]
    assert len({crop.numpy().tobytes() for crop in crops}) == 8
    assert torch.equal(decoder(picture), ImageDecoder(16, **PLAIN)(picture))


def test_near_things_are_bright_where_a_depth_map_is_turned_around(picture_file):
    millimetres = np.array([[0, 1000], [2500, 60000]], np.uint16)
    value = DepthDecoder(2, max_m=5, mean=0, std=1, near_bright=True)(picture_file(millimetres, "PNG"))
    assert value[0].flatten().tolist() == pytest.approx([0, 0.8, 0.5, 0.0])


def test_depth_is_metres_over_the_range_in_three_equal_channels(picture_file):
    millimetres = np.array([[0, 1000], [2500, 60000]], np.uint16)
    value = DepthDecoder(2, max_m=5, mean=0, std=1)(picture_file(millimetres, "PNG"))
    assert value[0].flatten().tolist() == pytest.approx([0, 0.2, 0.5, 1.0])
    assert torch.equal(value[0], value[2])
    with pytest.raises(ValueError, match="16-bit grey PNG in millimetres, not a picture of mode RGB"):
        DepthDecoder(2, 5)(picture_file(np.zeros((2, 2, 3), np.uint8), "PNG"))


def test_depth_is_never_interpolated_over_an_edge(picture_file):
    millimetres = np.where(np.arange(40)[None] < 20, 1000, 4000).repeat(40, axis=0).astype(np.uint16)
    value = DepthDecoder(16, max_m=5, mean=0, std=1)(picture_file(millimetres, "PNG"))
    assert {round(depth, 4) for depth in value.unique().tolist()} == {0.2, 0.8}


def test_normals_are_directions_and_black_is_none(picture_file):
    pixels = np.array([[[0, 0, 0], [255, 127, 0]]] * 2, np.uint8)
    value = NormalDecoder(2)(picture_file(pixels, "PNG"))
    assert value[:, 0, 0].tolist() == [0, 0, 0]
    assert value[:, 0, 1].tolist() == pytest.approx([1, -0.0039, -1], abs=1e-3)


def test_video_frames_are_the_middles_of_equal_parts(video_file):
    clip = video_file([np.full((16, 16, 3), 20 * number, np.uint8) for number in range(12)])
    value = seen(VideoDecoder(4, 16, **PLAIN), clip)
    assert (value.mean(dim=(1, 2, 3)) * 255 / 20).round().tolist() == [1, 4, 7, 10]
    assert VideoDecoder(1, 16, **PLAIN)(clip).shape == (1, 3, 16, 16)
    longer = VideoDecoder(24, 16, **PLAIN)(clip)
    assert torch.equal(longer[0], longer[1])


def test_jitter_stays_in_the_parts(video_file):
    clip = video_file([np.full((16, 16, 3), 20 * number, np.uint8) for number in range(12)])
    decoder = VideoDecoder(3, 16, **PLAIN, jitter=True)
    drawn = set()
    for seed in range(20):
        frames = (seen(decoder, clip, np.random.default_rng(seed)).mean(dim=(1, 2, 3)) * 255 / 20).round().tolist()
        assert [frame // 4 for frame in frames] == [0, 1, 2]
        drawn.add(tuple(frames))
    assert len(drawn) > 5
    assert torch.equal(decoder(clip), VideoDecoder(3, 16, **PLAIN)(clip))


def test_a_truncated_video_is_refused(video_file):
    rng = np.random.default_rng(0)
    clip = video_file([rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(12)])
    with pytest.raises(ValueError, match="not a readable video"):
        VideoDecoder(4, 16)(clip[: len(clip) // 2])


def test_a_stack_wants_one_member_for_each_decoder(files):
    stack = StackDecoder([ImageDecoder(8), DepthDecoder(8, 5)])
    assert stack((files["jpg"], files["depth"])).shape == (2, 3, 8, 8)
    with pytest.raises(ValueError, match="1 members for 2 decoders"):
        stack(files["jpg"])
    with pytest.raises(ValueError, match="different shapes"):
        StackDecoder([ImageDecoder(8), ImageDecoder(9)])((files["jpg"], files["png"]))


def test_a_stack_is_declared_in_a_yaml_and_crops_its_members_alike(picture_file):
    declared = {"_target_": "modalign.data.decoders.image.ImageDecoder", "size_px": 16, "scale": [0.5, 0.6]}
    stack = build(
        {"_target_": "modalign.data.decoders.stack.StackDecoder", "decoders": [declared, declared]}, "decoder"
    )
    picture = picture_file(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8), "PNG")
    first, second = stack((picture, picture), np.random.default_rng(1))
    assert torch.equal(first, second)
    assert not torch.equal(first, stack((picture, picture))[0])
    with pytest.raises(ModalignError, match="ImageDecoder: got an unexpected keyword argument 'px'"):
        StackDecoder([{**declared, "px": 8}])
    with pytest.raises(ModalignError, match="name one at least"):
        StackDecoder([])
