"""Points, series, vectors, maps and stacks: the values that come out, and the shapes that are refused."""

import io

import numpy as np
import pytest
import torch

from modalign.data.decoders import FramesDecoder, MapDecoder, PointDecoder, SeriesDecoder, VectorDecoder


def cloud(count=40, seed=0):
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.normal(size=(count, 3)) * 3 + 7, rng.random((count, 3))], axis=1).astype(np.float32)


def ply(points, kind="ascii", colour="uchar"):
    colours = points[:, 3:]
    names = ["x", "y", "z", "red", "green", "blue"]
    types = ["float"] * 3 + [colour] * 3
    head = f"ply\nformat {kind} 1.0\ncomment made here\nelement vertex {len(points)}\n"
    head += "".join(f"property {t} {n}\n" for t, n in zip(types, names, strict=True))
    head += "element face 0\nproperty list uchar int vertex_indices\nend_header\n"
    if kind == "ascii":
        rows = [[*point[:3], *np.round(c * 255).astype(int)] for point, c in zip(points, colours, strict=True)]
        return head.encode() + "\n".join(" ".join(map(str, row)) for row in rows).encode() + b"\n"
    order = "<" if "little" in kind else ">"
    table = np.empty(
        len(points), [(n, order + ("f4" if t == "float" else "u1")) for n, t in zip(names, types, strict=True)]
    )
    for axis, name in enumerate(names):
        table[name] = points[:, axis] if axis < 3 else np.round(points[:, axis] * 255)
    return head.encode() + table.tobytes()


def test_points_are_centred_in_the_unit_ball_with_their_colours(npy):
    points = cloud()
    value = PointDecoder(40)(npy(points))
    assert value[:, :3].mean(dim=0).abs().max() < 1e-5
    assert value[:, :3].norm(dim=1).max() == pytest.approx(1, abs=1e-5)
    assert torch.equal(value[:, 3:], torch.from_numpy(points[:, 3:]))
    assert torch.equal(PointDecoder(40, centre=False)(npy(points)), torch.from_numpy(points))


@pytest.mark.parametrize("kind", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_ply_files_give_what_arrays_give(npy, kind):
    points = cloud()
    points[:, 3:] = np.round(points[:, 3:] * 255) / 255
    assert torch.allclose(PointDecoder(40)(ply(points, kind)), PointDecoder(40)(npy(points)), atol=1e-5)


def test_points_are_drawn_without_repeats_or_spread_evenly(npy):
    data = npy(cloud(100))
    decoder = PointDecoder(30, centre=False)
    drawn = decoder(data, np.random.default_rng(0))
    assert len(drawn.unique(dim=0)) == 30
    assert not torch.equal(drawn, decoder(data, np.random.default_rng(1)))
    assert torch.equal(decoder(data), torch.from_numpy(cloud(100)[np.arange(30) * 100 // 30]))
    few = PointDecoder(250, centre=False)(data)
    assert len(few.unique(dim=0)) == 100


def test_points_without_colour_are_black_and_colours_out_of_range_refused(npy):
    assert PointDecoder(5)(npy(cloud()[:, :3]))[:, 3:].abs().sum() == 0
    bytes_colours = cloud()
    bytes_colours[:, 3:] *= 255
    with pytest.raises(ValueError, match="not 0 to 1: set colour_scale"):
        PointDecoder(5)(npy(bytes_colours))
    assert PointDecoder(5, colour_scale=255)(npy(bytes_colours)).shape == (5, 6)


def test_colours_that_rounding_took_out_of_range_are_clipped(npy):
    points = cloud(5)
    points[0, 3:] = [1.0000001, 1.0009, -0.0009]
    value = PointDecoder(5)(npy(points))
    assert value[0, 3:].tolist() == [1, 1, 0]
    assert torch.equal(value[1:, 3:], torch.from_numpy(points[1:, 3:]))
    for beyond in (1.002, -0.002):
        points[0, 3] = beyond
        with pytest.raises(ValueError, match="not 0 to 1: set colour_scale"):
            PointDecoder(5)(npy(points))


@pytest.mark.parametrize("shape", [(5,), (5, 4), (0, 6), (2, 3, 6)])
def test_other_shapes_are_no_cloud(npy, shape):
    with pytest.raises(ValueError, match="a point cloud must be"):
        PointDecoder(5)(npy(np.zeros(shape, np.float32)))


def test_a_series_is_padded_cropped_or_resampled(npy):
    ramp = np.stack([np.arange(10.0), -np.arange(10.0)], axis=1)
    assert SeriesDecoder(12, 2)(npy(ramp))[0].tolist() == [*range(10), 0, 0]
    assert SeriesDecoder(4, 2)(npy(ramp))[1].tolist() == [0, -1, -2, -3]
    assert SeriesDecoder(19, 2, mode="resample")(npy(ramp))[0].tolist() == pytest.approx(np.arange(0, 9.5, 0.5))
    with pytest.raises(ValueError, match="10 steps are fewer than num_steps=12; mode=pad"):
        SeriesDecoder(12, 2, mode="crop")(npy(ramp))
    assert SeriesDecoder(12, 2, mode="at_most")(npy(ramp))[0].tolist() == [*range(10), 0, 0]
    with pytest.raises(ValueError, match="10 steps are more than num_steps=9; mode=pad would cut them"):
        SeriesDecoder(9, 2, mode="at_most")(npy(ramp))
    drawn = {
        float(SeriesDecoder(4, 2, random_crop=True)(npy(ramp), np.random.default_rng(seed))[0, 0]) for seed in range(30)
    }
    assert drawn == set(range(7))


def test_a_series_decoder_says_what_it_cuts_or_pads_unless_it_was_asked_to(npy):
    ramp = npy(np.zeros((10, 2)))
    assert SeriesDecoder(4, 2).length_change(ramp) == ("cut", "10 steps where num_steps=4")
    for mode in ("pad", "at_most"):
        assert SeriesDecoder(12, 2, mode=mode).length_change(ramp) == (
            "padded with zeros",
            "10 steps where num_steps=12",
        )
        assert SeriesDecoder(10, 2, mode=mode).length_change(ramp) is None
    asked = [SeriesDecoder(4, 2, mode=mode) for mode in ("crop", "resample")] + [SeriesDecoder(4, 2, random_crop=True)]
    assert not [decoder for decoder in asked if decoder.length_change(ramp) is not None]


def test_channels_are_standardised_each_by_itself(npy):
    value = SeriesDecoder(3, 2, mean=[1, 0], std=[2, 4])(npy(np.ones((3, 2))))
    assert value.tolist() == [[0] * 3, [0.25] * 3]


@pytest.mark.parametrize("text", ["1,2\n3,4\n", "a,b\n1,2\n3,4\n", "a,b\r\n1,2\r\n3,4\r\n"])
def test_csv_is_read_with_and_without_header(text):
    assert SeriesDecoder(2, 2)(text.encode()).tolist() == [[1, 3], [2, 4]]


def test_values_that_are_not_finite_or_not_numbers_are_refused(npy):
    with pytest.raises(ValueError, match="series holds 1 values that are not finite"):
        SeriesDecoder(2, 2)(npy(np.array([[1, np.nan], [2, 3]])))
    with pytest.raises(ValueError, match="vector holds <U3, not numbers"):
        VectorDecoder()(npy(np.array(["abc"])))
    with pytest.raises(ValueError, match=r"not a readable vector .*Object arrays cannot be loaded"):
        VectorDecoder()(npy(np.array([None, {}])))


def test_a_vector_is_standardised_and_repeats_are_averaged(npy):
    assert VectorDecoder(1, 2)(npy(np.array([1.0, 3.0, 5.0]))).tolist() == [0, 1, 2]
    assert VectorDecoder()(npy(np.array([[1.0, 3.0], [3.0, 5.0]]))).tolist() == [2, 4]
    assert VectorDecoder()(npy(np.array([[1.0], [3.0], [5.0]]))).tolist() == [1, 3, 5]  # a value a line
    assert VectorDecoder(size=1)(npy(np.array([[1.0], [3.0], [5.0]]))).tolist() == [3]
    with pytest.raises(ValueError, match="3 values where the decoder's size is 4"):
        VectorDecoder(size=4)(npy(np.zeros(3)))
    with pytest.raises(ValueError, match="one axis"):
        VectorDecoder()(npy(np.zeros((2, 2, 2))))


def test_a_map_is_resized_and_standardised(npy):
    values = np.arange(16.0).reshape(4, 4)
    assert MapDecoder((4, 4), mean=8, std=2)(npy(values))[0].numpy() == pytest.approx((values - 8) / 2)
    assert MapDecoder((2, 2))(npy(values)).mean() == pytest.approx(7.5)
    assert MapDecoder((4, 4), channels=3)(npy(np.zeros((4, 4, 3)))).shape == (3, 4, 4)
    with pytest.raises(ValueError, match=r"a map must be \[height, width, 1\], not \[4, 4, 3\]"):
        MapDecoder((4, 4))(npy(np.zeros((4, 4, 3))))


def test_frames_are_the_middles_of_equal_parts(npy):
    stack = np.arange(12.0)[:, None, None] * np.ones((1, 4, 4))
    assert FramesDecoder(4, (4, 4))(npy(stack))[:, 0, 0, 0].tolist() == [1, 4, 7, 10]
    with pytest.raises(ValueError, match="a stack must be"):
        FramesDecoder(4, (4, 4))(npy(np.zeros((4, 4))))


def test_an_npz_holds_one_array(npy):
    file = io.BytesIO()
    np.savez(file, a=np.zeros(3), b=np.zeros(3))
    with pytest.raises(ValueError, match=r"2 arrays \(a, b\), one is expected"):
        VectorDecoder()(file.getvalue())
