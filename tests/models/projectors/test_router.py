"""The router's kinds, and what its weights depend on."""

from __future__ import annotations

import pytest
import torch

from modalign.errors import ModalignError
from modalign.models.projectors.router import Router, RouterSettings, constant_weights


def weights_of(router, pooled=None):
    queries = torch.randn(5, 8).expand(3, -1, -1)
    return router(queries, torch.randn(3, 8) if pooled is None else pooled)


@pytest.mark.parametrize("kind", ["soft", "sigmoid"])
@pytest.mark.parametrize("over", ["query", "input"])
def test_weights_sum_to_one(kind, over):
    weights = weights_of(Router(8, 3, RouterSettings(kind, over)))
    assert weights.shape == (3, 5, 3)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(3, 5))


def test_soft_is_softmax_and_sigmoid_is_divided_by_its_sum():
    queries = torch.randn(1, 5, 8)
    soft, sigmoid = (Router(8, 3, RouterSettings(kind)) for kind in ("soft", "sigmoid"))
    sigmoid.load_state_dict(soft.state_dict())
    scores = soft.fc2(torch.nn.functional.gelu(soft.fc1(queries)))
    torch.testing.assert_close(soft(queries, queries[:, 0]), scores.softmax(-1))
    torch.testing.assert_close(sigmoid(queries, queries[:, 0]), scores.sigmoid() / scores.sigmoid().sum(-1, True))


def test_over_queries_every_item_has_the_same_weights_and_over_inputs_its_own():
    by_query, by_input = (weights_of(Router(8, 3, RouterSettings(over=over))) for over in ("query", "input"))
    assert torch.equal(by_query[0], by_query[1])
    assert not torch.allclose(by_input[0], by_input[1])


def test_sparse_keeps_the_top_expert_with_its_weight_and_its_gradient():
    soft, sparse = (Router(8, 3, RouterSettings(kind)) for kind in ("soft", "sparse"))
    sparse.load_state_dict(soft.state_dict())
    queries, pooled = torch.randn(1, 5, 8), torch.zeros(1, 8)
    weights = sparse(queries, pooled)
    assert ((weights > 0).sum(dim=-1) == 1).all()
    torch.testing.assert_close(weights.sum(dim=-1), soft(queries, pooled).max(dim=-1).values)
    weights.sum().backward()
    assert sparse.fc1.weight.grad.abs().sum() > 0


def test_constant_weights_are_equal():
    assert constant_weights(torch.zeros(2, 5, 8), 4).unique().tolist() == [0.25]


def test_unknown_settings_are_refused():
    with pytest.raises(ModalignError, match="did you mean 'sigmoid'"):
        RouterSettings("sigmiod")
    with pytest.raises(ModalignError, match="did you mean 'query'"):
        RouterSettings(over="queries")
    with pytest.raises(ModalignError, match="not -1"):
        RouterSettings(hidden=-1)
