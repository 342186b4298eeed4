"""Ridge regression against solving the normal equations and against really leaving samples out."""

from __future__ import annotations

import pytest
import torch

from modalign.models.ridge import PENALTIES, fit_ridge


def problem(samples, values, targets=3, noise=0.3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, values, generator=generator) + 2.0
    truth = torch.randn(values, targets, generator=generator) / values**0.5
    return x, x @ truth + noise * torch.randn(samples, targets, generator=generator) - 1.0


def solved(x, y, penalty):
    x, y = x.double(), y.double()
    mean, level = x.mean(0), y.mean(0)
    centred = x - mean
    weight = torch.linalg.solve(
        centred.T @ centred + penalty * torch.eye(x.shape[1], dtype=torch.float64), centred.T @ (y - level)
    )
    return weight, level - mean @ weight


@pytest.mark.parametrize(("samples", "values"), [(40, 12), (12, 40)], ids=["more samples", "more values"])
def test_it_solves_the_normal_equations_at_its_penalty(samples, values):
    x, y = problem(samples, values)
    ridge = fit_ridge(x, y)
    weight, bias = solved(x, y, ridge.penalty)
    assert torch.allclose(ridge.weight, weight, atol=1e-9)
    assert torch.allclose(ridge.bias, bias, atol=1e-9)


def test_its_penalty_is_the_one_at_which_samples_left_out_are_predicted_best():
    x, y = problem(15, 30)
    ridge = fit_ridge(x, y)
    centred = x.double() - x.double().mean(0)
    squares = torch.linalg.svdvals(centred) ** 2
    errors = {}
    for factor in PENALTIES:
        penalty, error = factor * float(squares.mean()), 0.0
        for i in range(len(x)):
            others = [j for j in range(len(x)) if j != i]
            # the penalty is for the sum over all samples, whose mean stays the whole set's in none of the fits
            weight, bias = solved(x[others], y[others], penalty)
            error += float(((y[i].double() - x[i].double() @ weight - bias) ** 2).sum())
        errors[penalty] = error
    best = min(errors, key=errors.__getitem__)
    assert ridge.penalty == pytest.approx(best)
    mean_error = sum(
        float(((y[i].double() - y[[j for j in range(len(y)) if j != i]].double().mean(0)) ** 2).sum())
        for i in range(len(y))
    )
    assert ridge.explained == pytest.approx(1 - errors[best] / mean_error, abs=1e-6)


def test_what_values_say_is_explained_and_noise_is_not():
    said = fit_ridge(*problem(200, 20, noise=0.1))
    assert said.explained > 0.95
    x, _ = problem(60, 100)
    unrelated = torch.randn(60, 3, generator=torch.Generator().manual_seed(9))
    noise = fit_ridge(x, unrelated)
    assert noise.explained < 0.1
    assert float(noise.weight.norm()) < 0.1 * float(said.weight.norm())


def test_values_or_targets_that_never_change_give_their_mean():
    x, y = problem(6, 4)
    still = fit_ridge(torch.ones_like(x), y)
    assert torch.allclose(torch.ones(4, dtype=torch.float64) @ still.weight + still.bias, y.double().mean(0))
    same = fit_ridge(x, torch.ones_like(y))
    assert same.explained == 0.0
    assert torch.allclose(x.double() @ same.weight + same.bias, torch.ones_like(y).double())
