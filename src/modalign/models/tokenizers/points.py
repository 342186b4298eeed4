"""Tokens of point clouds: farthest-point sampling, nearest neighbours, a linear map, the maximum of each group.

Letters: N clouds, P points, C channels (xyz first), G groups, K points a group, D width.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from modalign.errors import ModalignError, unknown_name

# Which channels say where a point lies. The released OneLLM code samples on the last three (colour), not on xyz.
SAMPLE_BY = {"xyz": slice(0, 3), "features": slice(-3, None)}


def farthest_points(places: Float[Tensor, "N P 3"], num_groups: int) -> Int[Tensor, "N G"]:
    """Indices of `num_groups` points, each the farthest from those before it, beginning with point 0."""
    num_clouds, num_points, _ = places.shape
    chosen = torch.zeros(num_clouds, num_groups, dtype=torch.long, device=places.device)
    nearest = torch.full((num_clouds, num_points), float("inf"), device=places.device, dtype=places.dtype)
    last = chosen[:, 0]
    for step in range(1, num_groups):
        centre = places.gather(1, last.view(-1, 1, 1).expand(-1, 1, 3))
        nearest = torch.minimum(nearest, (places - centre).square().sum(-1))
        last = nearest.argmax(dim=1)
        chosen[:, step] = last
    return chosen


def nearest_points(
    places: Float[Tensor, "N P 3"], centres: Float[Tensor, "N G 3"], group_size: int
) -> Int[Tensor, "N G K"]:
    """Indices of the `group_size` points nearest to each centre."""
    distances = torch.cdist(centres, places, compute_mode="donot_use_mm_for_euclid_dist")
    return distances.topk(group_size, dim=-1, largest=False, sorted=False).indices


def take(points: Float[Tensor, "N P C"], index: Tensor) -> Tensor:
    """Rows of each cloud by index [N, ...]."""
    flat = index.flatten(1).unsqueeze(-1).expand(-1, -1, points.shape[-1])
    return points.gather(1, flat).view(*index.shape, points.shape[-1])


class PointTokenizer(nn.Module):
    """One token a group of neighbouring points; `relative` appends xyz relative to the group's centre.

    `hidden` puts one GELU layer of that width before the linear map (0: linear alone, as published).
    `sample_by` "features" groups on the last three channels like the released code; the default groups on xyz.
    """

    def __init__(
        self,
        width: int,
        num_points: int,
        num_groups: int,
        group_size: int,
        channels: int = 6,
        sample_by: str = "xyz",
        relative: bool = True,
        hidden: int = 0,
    ) -> None:
        super().__init__()
        if sample_by not in SAMPLE_BY:
            raise unknown_name("sample_by", sample_by, SAMPLE_BY, "PointTokenizer")
        if num_groups > num_points or group_size > num_points:
            raise ModalignError(
                f"PointTokenizer: {num_groups} groups of {group_size} cannot be taken from {num_points} points"
            )
        self.width = width
        self.num_tokens = num_groups
        self.group_size = group_size
        self.channels = channels
        self.sample_by = sample_by
        self.relative = relative
        inputs = channels + 3 * relative
        self.embed: nn.Module = nn.Linear(inputs, width)
        if hidden:
            self.embed = nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(
        self, values: Float[Tensor, "N P C"], variants: tuple[str | None, ...] = ()
    ) -> Float[Tensor, "N 1 L D"]:
        """Clouds to tokens, in the order in which the centres were sampled."""
        if values.dim() != 3 or values.shape[-1] != self.channels or values.shape[1] < self.num_tokens:
            raise ModalignError(
                f"PointTokenizer takes clouds of at least {self.num_tokens} points with {self.channels} channels, "
                f"but {tuple(values.shape)} came; make decoder and tokenizer agree"
            )
        with torch.no_grad():
            places = values[..., SAMPLE_BY[self.sample_by]]
            centres = farthest_points(places, self.num_tokens)
            groups = nearest_points(places, take(places, centres), self.group_size)
        points = take(values, groups)
        if self.relative:
            here = take(values[..., :3], centres).unsqueeze(2)
            points = torch.cat([points, points[..., :3] - here], dim=-1)
        return self.embed(points).amax(dim=2).unsqueeze(1)
