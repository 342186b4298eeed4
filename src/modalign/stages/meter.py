"""Running sums by source, kept on the device and read only when something is logged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class Meter:
    """Adds sums and counts of each term by source; `read` turns them into means and starts anew."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._samples = 0

    def add(self, source: str, term: str, total: Tensor, count: Tensor, samples: int) -> None:
        """Add one micro-batch without waiting for the device."""
        key = f"{source}|{term}"
        pair = torch.stack([total.double(), count.double()])
        pair = pair.where(pair.isfinite().all(), 0.0)  # such a step is skipped, and must not hide the others
        self._sums[key] = self._sums[key].to(pair.device) + pair if key in self._sums else pair
        self._samples += samples

    def read(self, source_names: dict[str, str]) -> dict[str, float]:
        """Means since the last call: `loss`, `loss/<name>` by the display name of each source, `samples`, `tokens`."""
        values: dict[str, float] = {}
        by_name: dict[str, list[float]] = {}
        total = count = 0.0
        for key, pair in self._sums.items():
            source = key.split("|")[0]
            pair_total, pair_count = (float(v) for v in pair)
            total, count = total + pair_total, count + pair_count
            sums = by_name.setdefault(source_names.get(source, source), [0.0, 0.0])
            sums[0] += pair_total
            sums[1] += pair_count
        for name, (name_total, name_count) in by_name.items():
            if name_count:  # else nothing of it was finite, or carried loss
                values[f"loss/{name}"] = name_total / name_count
        if count:
            values["loss"] = total / count
        values |= {"samples": float(self._samples), "tokens": count}
        self._sums, self._samples = {}, 0
        return values

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"sums": {key: pair.cpu() for key, pair in self._sums.items()}, "samples": self._samples}

    def load(self, state: dict[str, Any]) -> None:
        """Take up a kept state."""
        self._sums, self._samples = dict(state["sums"]), state["samples"]


def merged_meters(states: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One state from those of all ranks: sums and numbers of samples add up."""
    sums: dict[str, Tensor] = {}
    for state in states:
        for key, pair in state["sums"].items():
            sums[key] = sums[key] + pair if key in sums else pair
    return {"sums": sums, "samples": sum(state["samples"] for state in states)}
