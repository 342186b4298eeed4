"""Point clouds: who is sampled, who is grouped, and by which channels."""

from __future__ import annotations

import pytest
import torch

from modalign.errors import ModalignError
from modalign.models.tokenizers.points import PointTokenizer, farthest_points, nearest_points


def test_the_farthest_points_of_a_line_are_its_ends_then_its_middle():
    line = torch.zeros(1, 9, 3)
    line[0, :, 0] = torch.arange(9.0)
    assert farthest_points(line, 4)[0, :3].tolist() == [0, 8, 4]


def test_farthest_points_agree_with_a_plain_loop():
    places = torch.randn(3, 40, 3)
    for cloud, chosen in zip(places, farthest_points(places, 10), strict=True):
        picked = [0]
        for _ in range(9):
            gaps = torch.cdist(cloud, cloud[picked]).min(dim=1).values
            picked.append(int(gaps.argmax()))
        assert chosen.tolist() == picked


def test_nearest_points_are_the_nearest():
    places, centres = torch.randn(2, 30, 3), torch.randn(2, 4, 3)
    found = nearest_points(places, centres, 5).sort().values
    expected = torch.cdist(centres, places).argsort(dim=-1)[..., :5].sort().values
    assert torch.equal(found, expected)


def test_one_cloud_never_reaches_another():
    tokenizer = PointTokenizer(8, 24, 6, 4)
    clouds = torch.randn(2, 24, 6)
    changed = clouds.clone()
    changed[1] += 1.0
    assert torch.equal(tokenizer(clouds)[0], tokenizer(changed)[0])


def test_the_order_of_a_groups_points_does_not_matter():
    tokenizer = PointTokenizer(8, 24, 24, 24, relative=False)
    cloud = torch.randn(1, 24, 6)
    order = torch.randperm(24)
    torch.testing.assert_close(tokenizer(cloud)[0, 0, 0], tokenizer(cloud[:, order])[0, 0, 0])


def test_xyz_or_the_last_channels_decide_the_groups():
    cloud = torch.randn(1, 24, 6)
    by_place, by_feature = (PointTokenizer(8, 24, 6, 4, sample_by=by, relative=False) for by in ("xyz", "features"))
    by_feature.load_state_dict(by_place.state_dict())
    swapped = torch.cat([cloud[..., 3:], cloud[..., :3]], dim=-1)
    assert not torch.equal(by_place(cloud), by_feature(cloud))
    with torch.no_grad():
        by_feature.embed.weight.copy_(torch.cat([by_place.embed.weight[:, 3:], by_place.embed.weight[:, :3]], dim=1))
    torch.testing.assert_close(by_place(cloud), by_feature(swapped))


def test_relative_places_do_not_change_when_the_cloud_moves():
    tokenizer = PointTokenizer(8, 24, 6, 4, channels=3, relative=True, hidden=16)
    with torch.no_grad():
        tokenizer.embed[0].weight[:, :3] = 0.0
    cloud = torch.randn(1, 24, 3)
    torch.testing.assert_close(tokenizer(cloud), tokenizer(cloud + 5.0), atol=1e-4, rtol=1e-4)


def test_gradients_reach_the_linear_map_through_the_maximum():
    tokenizer = PointTokenizer(8, 24, 6, 4)
    tokenizer(torch.randn(1, 24, 6)).sum().backward()
    assert tokenizer.embed.weight.grad.abs().sum() > 0


def test_too_few_points_and_unknown_channels_are_refused():
    with pytest.raises(ModalignError, match="cannot be taken from 4 points"):
        PointTokenizer(8, 4, 6, 2)
    with pytest.raises(ModalignError, match="did you mean 'features'"):
        PointTokenizer(8, 24, 6, 4, sample_by="feature")
    with pytest.raises(ModalignError, match="at least 6 points with 6 channels"):
        PointTokenizer(8, 24, 6, 4)(torch.zeros(1, 5, 6))
