"""Warm-up, cosine and floor in optimizer steps; one group a part, decay on matrices alone."""

import pytest
import torch

from modalign.config.schema import OptimizerSettings
from modalign.stages.optimizer import make_optimizer, make_schedule, skip_step


def settings(**changes):
    return OptimizerSettings(**{"learning_rate": 0.1, "floor": 0.1, "warmup_steps": 4, "weight_decay": 0.5, **changes})


def rates(steps, **changes):
    own = settings(**changes)
    optimizer = make_optimizer({"a": [torch.nn.Parameter(torch.zeros(2, 2))]}, {}, own)
    schedule = make_schedule(optimizer, own, steps)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return [*found, optimizer.param_groups[0]["lr"]]


def test_the_rate_rises_in_a_line_then_falls_as_half_a_cosine_to_the_floor():
    found = rates(20)
    assert found[:5] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1])
    assert found[12] == pytest.approx(0.1 * (0.1 + 0.9 * 0.5))  # half way between warm-up and end
    assert found[4:] == sorted(found[4:], reverse=True)
    assert found[-1] == pytest.approx(0.01)


def test_without_warm_up_the_first_step_has_the_full_rate():
    assert rates(4, warmup_steps=0)[0] == pytest.approx(0.1)


def test_a_warm_up_longer_than_the_phase_still_reaches_the_full_rate():
    found = rates(3, warmup_steps=50)
    assert found[2] == pytest.approx(0.1)
    assert found[0] > 0


def test_a_phase_of_one_step_trains():
    assert rates(1, warmup_steps=0)[0] == pytest.approx(0.1)


def test_each_part_has_its_own_rate_and_only_matrices_decay():
    parts = {
        "tokenizers.audio": [torch.nn.Parameter(torch.zeros(2, 2)), torch.nn.Parameter(torch.zeros(2))],
        "llm": [torch.nn.Parameter(torch.zeros(3, 3))],
    }
    groups = make_optimizer(parts, {"tokenizers.audio": 3.0}, settings()).param_groups
    found = [(g["part"], g["lr"], g["weight_decay"], g["params"][0].ndim) for g in groups]
    assert found == [
        ("tokenizers.audio", pytest.approx(0.3), 0.5, 2),
        ("tokenizers.audio", pytest.approx(0.3), 0.0, 1),
        ("llm", pytest.approx(0.1), 0.5, 2),
    ]


def test_the_fused_step_is_adamws():
    random = torch.Generator().manual_seed(0)
    start, slope = torch.randn(7, 5, generator=random), torch.randn(7, 5, generator=random)
    ours, plain = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    own = settings()
    optimizers = (
        make_optimizer({"a": [ours]}, {}, own),
        torch.optim.AdamW([plain], lr=0.1, betas=own.betas, eps=1e-8, weight_decay=0.5, foreach=False),
    )
    for step in range(5):
        ours.grad, plain.grad = slope * (1 + step), slope * (1 + step)
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(ours, plain, rtol=1e-6, atol=1e-7)
    assert not torch.equal(ours, start)


def test_a_step_that_is_to_be_skipped_leaves_weights_state_and_count_alone():
    weight = torch.nn.Parameter(torch.ones(2, 2))
    optimizer = make_optimizer({"a": [weight]}, {}, OptimizerSettings(learning_rate=0.1, weight_decay=0.5))
    for number, skip in enumerate((False, True, False)):
        before = weight.detach().clone()
        weight.grad = torch.full((2, 2), float("nan") if skip else 1.0)
        skip_step(optimizer, torch.tensor(skip))
        optimizer.step()
        assert torch.equal(weight, before) == skip
        assert bool(torch.isfinite(weight).all())
        assert int(optimizer.state[weight]["step"]) == (1, 1, 2)[number]


def test_sharded_weights_are_left_out_of_a_step_by_hand():
    weight = torch.nn.Parameter(torch.ones(2, 2))
    optimizer = make_optimizer({"a": [weight]}, {}, OptimizerSettings(learning_rate=0.1))
    weight.grad = torch.ones(2, 2)
    skip_step(optimizer, torch.tensor(True), sharded=True)
    optimizer.step()
    assert torch.equal(weight, torch.ones(2, 2))
