"""Tokens of pictures, maps and series: how many, in which order, and what is refused."""

from __future__ import annotations

import pytest
import torch

from modalign.errors import ModalignError
from modalign.models.tokenizers.maps import MapTokenizer
from modalign.models.tokenizers.patch import PatchTokenizer
from modalign.models.tokenizers.series import SeriesTokenizer
from modalign.models.tokenizers.spectrogram import SpectrogramTokenizer


def test_token_counts_are_those_of_the_published_model():
    assert PatchTokenizer(2, 14, 224).num_tokens == 256
    assert SpectrogramTokenizer(2, 16, 10, 128, 1024).num_tokens == 1212
    assert SeriesTokenizer(2, 6, 400, 10, 1).num_tokens == 391


def test_a_stack_of_frames_gives_tokens_by_frame():
    tokenizer = PatchTokenizer(5, 4, 8)
    frames = torch.randn(2, 3, 3, 8, 8)
    tokens = tokenizer(frames)
    assert tokens.shape == (2, 3, 4, 5)
    torch.testing.assert_close(tokens[:, 1], tokenizer(frames[:, 1])[:, 0])


def test_patches_come_in_rows_from_the_top_left():
    tokenizer = PatchTokenizer(1, 2, 4, channels=1)
    torch.nn.init.ones_(tokenizer.conv.weight)
    picture = torch.zeros(1, 1, 4, 4)
    picture[0, 0, 0, 2] = 1.0
    assert tokenizer(picture)[0, 0, :, 0].tolist() == [0.0, 1.0, 0.0, 0.0]


def test_a_map_may_be_oblong_with_windows_that_overlap():
    tokenizer = MapTokenizer(3, (4, 6), (2, 3), channels=2, size=(8, 12))
    assert tokenizer.grid == (3, 3)
    assert tokenizer(torch.randn(2, 2, 8, 12)).shape == (2, 1, 9, 3)


def test_a_stem_comes_before_the_tokens_and_makes_them_no_linear_function_of_the_series():
    torch.manual_seed(0)
    plain, stemmed = SeriesTokenizer(4, 2, 40, 6, 2), SeriesTokenizer(4, 2, 40, 6, 2, stem=[[8, 4, 2]])
    assert stemmed.num_tokens == (((40 - 4) // 2 + 1) - 6) // 2 + 1
    series = torch.randn(3, 2, 40)
    assert stemmed(series).shape == (3, 1, stemmed.num_tokens, 4)
    assert torch.allclose(plain(2 * series), 2 * plain(series), atol=1e-5)
    assert not torch.allclose(stemmed(2 * series), 2 * stemmed(series), atol=1e-4)
    with pytest.raises(ModalignError, match="SeriesTokenizer stem: a window of 50"):
        SeriesTokenizer(4, 2, 40, 6, 2, stem=[[8, 50, 2]])


def test_series_tokens_follow_time():
    tokenizer = SeriesTokenizer(4, 2, 10, kernel=2, stride=2)
    series = torch.randn(1, 2, 10)
    changed = series.clone()
    changed[..., -1] += 1.0
    same = (tokenizer(series) == tokenizer(changed)).all(dim=-1)[0, 0]
    assert same.tolist() == [True, True, True, True, False]


@pytest.mark.parametrize(
    ("tokenizer", "shape"),
    [
        (PatchTokenizer(4, 4, 8), (1, 3, 8, 9)),
        (PatchTokenizer(4, 4, 8), (1, 1, 8, 8)),
        (SpectrogramTokenizer(4, 4, 4, 8, 16), (1, 1, 8, 15)),
        (SeriesTokenizer(4, 2, 10, 2, 2), (1, 3, 10)),
        (SeriesTokenizer(4, 2, 10, 2, 2), (10,)),
    ],
)
def test_a_shape_that_disagrees_is_named_with_both_sides(tokenizer, shape):
    with pytest.raises(ModalignError, match="came"):
        tokenizer(torch.zeros(shape))


def test_a_window_larger_than_the_map_is_refused_when_built():
    with pytest.raises(ModalignError, match="does not fit into 8"):
        PatchTokenizer(4, 16, 8)
