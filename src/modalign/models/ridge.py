"""Ridge regression in closed form, with the penalty at which samples that are left out are predicted best."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

# Penalties that are tried, as multiples of the mean square of the values' principal axes.
PENALTIES = tuple(10.0 ** (exponent / 4) for exponent in range(-16, 17))


@dataclass(frozen=True)
class Ridge:
    """values @ weight + bias predicts the targets; `explained` is the share of their variance, of samples left out."""

    weight: Float[Tensor, "V D"]
    bias: Float[Tensor, " D"]
    penalty: float
    explained: float


def fit_ridge(values: Float[Tensor, "N V"], targets: Float[Tensor, "N D"]) -> Ridge:
    """The ridge regression from values to targets, in float64, for three samples and more.

    The penalty is the one with the smallest error of leaving each sample out in turn, which the principal axes of the
    samples give without fitting again (Golub, Heath and Wahba, 1979, section 2).
    """
    x, y = values.double(), targets.double()
    mean, level = x.mean(dim=0), y.mean(dim=0)
    x, y = x - mean, y - level
    axes, squares = _principal(x)
    along = axes.T @ y
    scale = max(float(squares.sum()) / max(1, min(x.shape)), torch.finfo(torch.float64).tiny)
    errors = {factor * scale: _left_out(axes, squares, along, y, factor * scale) for factor in PENALTIES}
    penalty = min(errors, key=errors.__getitem__)
    weight = x.T @ (axes @ (along / (squares + penalty)[:, None]))
    spread = float((y**2).sum()) * (len(y) / (len(y) - 1)) ** 2  # of leaving out: the mean of the others
    explained = 1 - errors[penalty] / spread if spread > 0 else 0.0
    return Ridge(weight, level - mean @ weight, penalty, explained)


def _principal(x: Tensor) -> tuple[Tensor, Tensor]:
    """The samples' principal axes [N, K] and their squared lengths, by the smaller of both products."""
    samples, values = x.shape
    if samples <= values:
        squares, axes = torch.linalg.eigh(x @ x.T)
        return axes, squares.clamp_min(0.0)
    squares, directions = torch.linalg.eigh(x.T @ x)
    squares = squares.clamp_min(0.0)
    kept = squares > float(squares.amax()) * 1e-12
    return (x @ directions[:, kept]) / squares[kept].sqrt(), squares[kept]


def _left_out(axes: Tensor, squares: Tensor, along: Tensor, y: Tensor, penalty: float) -> float:
    """The sum of squared errors of samples that were each left out."""
    kept = squares / (squares + penalty)
    leverage = (axes**2) @ kept + 1 / len(y)  # the mean is fitted too
    residual = y - axes @ (kept[:, None] * along)
    return float(((residual / (1 - leverage).clamp_min(1e-9)[:, None]) ** 2).sum())
