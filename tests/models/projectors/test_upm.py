"""The universal projector: equation, tags, scale, experts that nobody chose."""

from __future__ import annotations

import pytest
import torch

from modalign.errors import ModalignError
from modalign.models.projectors.upm import UniversalProjector
from modalign.types import TokenSet


def features(count=2, length=6):
    return TokenSet(torch.randn(count, length, 16))


def test_soft_tokens_are_the_experts_weighted_sum_between_tags(make_upm):
    upm, tokens = make_upm(["image"]), features()
    port = upm.ports["image"]
    inputs = port.in_norm(port.in_proj(tokens.values))
    queries = port.queries.expand(2, -1, -1)
    weights = upm.router_weights(tokens, "image")
    mixed = sum(weights[..., k : k + 1] * upm.experts[k](queries, inputs) for k in range(3))
    soft = upm(tokens, "image").values
    torch.testing.assert_close(soft[:, 1:-1], port.out_norm(port.out_proj(mixed)))
    torch.testing.assert_close(soft[:, 0], port.start_tag.expand(2, -1))
    torch.testing.assert_close(soft[:, -1], port.end_tag.expand(2, -1))


def test_one_expert_and_a_constant_router_have_no_router_to_train(make_upm):
    for upm in (make_upm(["image"], num_experts=1), make_upm(["image"], router={"kind": "constant"})):
        assert not list(upm.router.parameters())
        weights = upm.router_weights(features(), "image")
        torch.testing.assert_close(weights, torch.full_like(weights, 1 / upm.num_experts))
        assert upm(features(), "image").values.shape == (2, 5, 24)


def test_copies_of_one_expert_give_what_one_expert_gives(make_upm):
    one, three = make_upm(["image"], num_experts=1), make_upm(["image"])
    three.ports.load_state_dict(one.ports.state_dict())
    for expert in three.experts:
        expert.load_state_dict(one.experts[0].state_dict())
    tokens = features()
    torch.testing.assert_close(three(tokens, "image").values, one(tokens, "image").values)
    assert three.expert_distance().abs().max() == 0


def test_experts_that_differ_have_a_distance(make_upm):
    distance = make_upm(["image"]).expert_distance()
    assert torch.equal(distance, distance.T)
    assert (distance.fill_diagonal_(1.0) > 0.1).all()


@pytest.mark.parametrize("over", ["query", "input"])
@pytest.mark.parametrize("kind", ["soft", "sigmoid", "sparse", "constant"])
def test_one_item_never_reaches_another(make_upm, kind, over):
    upm = make_upm(["image"], router={"kind": kind, "over": over}).eval()
    tokens = features(3)
    changed = tokens.values.clone()
    changed[1] = torch.randn(6, 16)
    before, after = upm(tokens, "image").values, upm(TokenSet(changed), "image").values
    torch.testing.assert_close(before[[0, 2]], after[[0, 2]])
    assert not torch.allclose(before[1], after[1])


def test_an_expert_that_nobody_chose_is_left_out_without_a_gradient_and_has_none_with_one(make_upm):
    upm = make_upm(["image"], router={"kind": "sparse"})
    with torch.no_grad():
        upm.router["image"].fc2.bias.copy_(torch.tensor([0.0, 50.0, 0.0]))
    tokens = features()
    trained = upm(tokens, "image").values
    trained.square().sum().backward()
    gradients = [max(float(p.grad.abs().max()) for p in e.parameters()) for e in upm.experts]
    assert gradients[0] == gradients[2] == 0 < gradients[1]
    calls = []
    upm.experts[0].register_forward_hook(lambda *_: calls.append(0))
    with torch.no_grad():
        assert torch.equal(upm(tokens, "image").values, trained)
    assert not calls


def test_a_masked_feature_changes_nothing(make_upm):
    upm = make_upm(["image"], router={"over": "input"})
    tokens = features(2, 6)
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    masked = upm(TokenSet(tokens.values, mask), "image").values
    alone = upm(TokenSet(tokens.values[1:, :4]), "image").values
    torch.testing.assert_close(masked[1:], alone)


def test_scale_is_matched_once_however_often_it_is_asked(make_upm):
    upm = make_upm(["image"])
    for _ in range(2):
        upm.match_scale(0.1)
    port = upm.ports["image"]
    assert float(upm(features(8), "image").values[:, 1:-1].std()) == pytest.approx(0.1, rel=0.1)
    assert 0.05 < float(port.start_tag.std()) < 0.2


def test_the_released_start_keeps_its_own_scale(make_upm):
    upm = make_upm(["image"], start_scale="one")
    upm.match_scale(0.1)
    port = upm.ports["image"]
    assert torch.equal(port.out_norm.weight, torch.ones(24))
    for tag in (port.start_tag, port.end_tag):
        assert 0 <= float(tag.min()) < 0.3 < 0.7 < float(tag.max()) < 1
    with pytest.raises(ModalignError, match="start_scale 'two'"):
        make_upm(["image"], start_scale="two")


def test_without_tags_only_queries_leave(make_upm):
    assert make_upm(["image"], tags=False)(features(), "image").values.shape == (2, 3, 24)


def test_an_unknown_modality_is_refused(make_upm):
    with pytest.raises(ModalignError, match="did you mean 'image'"):
        make_upm(["image", "audio"])(features(), "images")
    with pytest.raises(ModalignError, match="at least one expert"):
        make_upm(["image"], num_experts=0)
    with pytest.raises(ModalignError, match="a UPM of width=0, num_queries=0 cannot be"):
        UniversalProjector(32, 0, 24, 1, 1, 2, 16, 0, ["image"])
