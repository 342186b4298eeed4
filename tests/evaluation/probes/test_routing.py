"""Router and experts whose answer is set by hand."""

import pytest
import torch

from modalign.evaluation.probes.routing import expert_distances, mean_distance, routing, watching
from modalign.models.projectors.upm import UniversalProjector
from modalign.types import TokenSet


def upm(num_experts=3, **router):
    torch.manual_seed(0)
    return UniversalProjector(8, 8, 8, num_experts, 1, 2, 8, 4, ("smell", "taste"), router)


def seen_by(projector, modality="smell"):
    with watching(projector, modality) as seen, torch.no_grad():
        for name in ("smell", "taste"):
            projector(TokenSet(torch.randn(5, 3, 8)), name)
    return seen


def prefer(projector, expert, by):
    """A router that gives one expert `by` nats more than the others, whatever the query."""
    last = projector.router["smell"].fc2
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.zeros_(last.bias)
    last.bias.data[expert] = by


def test_a_constant_router_loads_all_alike():
    projector = upm(kind="constant")
    found = routing(projector, seen_by(projector).weights)
    assert found.load == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert (found.entropy, found.balance) == pytest.approx((1.0, 1.0))


def test_a_router_that_always_takes_one_expert_has_no_entropy_and_no_balance():
    projector = upm(kind="sparse")
    prefer(projector, 1, 0.1)
    found = routing(projector, seen_by(projector).weights)
    assert found.load == (0.0, 1.0, 0.0)
    assert (found.entropy, found.balance) == pytest.approx((0.0, 0.0))


def test_a_soft_router_has_the_entropy_of_its_weights():
    projector = upm(kind="soft")
    prefer(projector, 0, float(torch.tensor(2.0).log()))  # weights 1/2, 1/4, 1/4
    found = routing(projector, seen_by(projector).weights)
    assert found.load == pytest.approx((0.5, 0.25, 0.25))
    assert found.entropy == pytest.approx(1.5 * 0.6931472 / 1.0986123)


def test_tokens_that_choose_different_experts_balance_the_load_without_entropy():
    weights = torch.eye(3).unsqueeze(0)
    found = routing(upm(), weights)
    assert found.entropy == pytest.approx(0.0)
    assert found.balance == pytest.approx(1.0)


def test_one_expert_has_no_router():
    projector = upm(1)
    assert routing(projector, seen_by(projector).weights) is None


def test_what_was_seen_is_what_the_projector_computed_for_that_modality():
    projector = upm()
    features = TokenSet(torch.randn(2, 3, 8))
    with watching(projector, "taste") as seen, torch.no_grad():
        output = projector(features, "taste")
        projector(features, "smell")
    assert seen.soft_tokens is output
    assert torch.equal(seen.weights, projector.router_weights(features, "taste"))
    assert not projector._forward_hooks
    assert not projector.router["taste"]._forward_hooks


def test_experts_that_are_copies_have_no_distance_and_one_that_moved_has():
    model, projector = torch.nn.Module(), upm()
    model.projectors = torch.nn.ModuleDict({"upm": projector, "one": upm(1)})
    for expert in projector.experts[1:]:
        expert.load_state_dict(projector.experts[0].state_dict())
    assert expert_distances(model) == {"upm": ((0.0,) * 3,) * 3}
    with torch.no_grad():
        for parameter in projector.experts[2].parameters():
            parameter.mul_(2.0)
    (rows,) = expert_distances(model).values()
    # |2w - w| over the mean of |w| and |2w|
    assert rows[0][2] == pytest.approx(1 / 1.5)
    assert rows[0][1] == 0.0
    assert mean_distance(rows) == pytest.approx(2 / 3 / 1.5)
