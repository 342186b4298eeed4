"""Splits a padded batch into groups of similar length, so that the language model computes little padding."""

from __future__ import annotations

from collections.abc import Sequence

from modalign.models.fusion.sequence import Composed
from modalign.models.transfer import sent

# A group is opened where the padding that it saves is worth more than this many positions of extra launches.
COST_OF_A_GROUP = 192


def length_groups(lengths: Sequence[int]) -> list[list[int]]:
    """Row numbers by group, longest rows first; rows are cut apart where that saves more than a group costs."""
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    groups: list[list[int]] = []
    while order:
        longest = lengths[order[0]]
        # The best single cut: rows from `cut` on would be padded to lengths[cut] instead of the longest.
        savings = [(longest - lengths[order[cut]]) * (len(order) - cut) for cut in range(len(order))]
        cut = max(range(len(order)), key=lambda place: savings[place])
        if savings[cut] <= COST_OF_A_GROUP:
            cut = len(order)
        groups.append(order[:cut])
        order = order[cut:]
    return groups


def part_of_batch(composed: Composed, rows: Sequence[int], length: int) -> Composed:
    """The right-padded rows of a group, cut to its longest."""
    index = sent(rows, composed.labels.device)
    return Composed(
        composed.embeddings.index_select(0, index)[:, :length],
        composed.attention_mask.index_select(0, index)[:, :length],
        composed.position_ids.index_select(0, index)[:, :length],
        composed.labels.index_select(0, index)[:, :length],
        composed.weights.index_select(0, index)[:, :length],
        [composed.lengths[row] for row in rows],
        [composed.places[row] for row in rows],
        composed.padding,
    )
