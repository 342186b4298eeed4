"""Which parameters a loss depends on, and what of tensors is here: the plain side of sharding."""

import torch
from torch import nn

from modalign.models.shards import gathered, like, local, reached, touching, whole


def test_a_loss_reaches_what_it_was_computed_from_and_nothing_else():
    used, unused = nn.Linear(2, 2), nn.Linear(2, 2)
    loss = used(torch.ones(1, 2)).sum()
    assert reached(loss) == {id(used.weight), id(used.bias)}
    touched = touching(loss, unused.parameters())
    assert torch.equal(touched, loss)
    assert reached(touched) == {id(p) for p in (*used.parameters(), *unused.parameters())}
    touched.backward()
    assert not bool(unused.weight.grad.any())
    assert torch.equal(used.weight.grad, torch.ones(2, 2))
    assert touching(loss, []) is loss


def test_a_plain_tensor_is_whole_and_here():
    tensor = torch.arange(4.0)
    assert local(tensor) is tensor
    assert whole(tensor) is tensor
    assert like(tensor, tensor) is tensor
    assert torch.equal(gathered({"a": tensor}, keep=True)["a"], tensor)
    assert gathered({"a": tensor}, keep=False) == {}
