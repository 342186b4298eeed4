"""The engines as Lightning's strategies: one process, DDP, FSDP2."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.strategies import DDPStrategy, Strategy

from modalign.config.processes import DATA_PARALLEL, SINGLE
from modalign.runs.ranks import Ranks
from modalign.stages.parallel.sharded import ShardedStrategy


def strategy_of(engine: str, ranks: Ranks) -> Strategy | str:
    """The strategy of an engine; `auto` leaves one process to Lightning."""
    if engine == SINGLE:
        return "auto"
    return data_parallel() if engine == DATA_PARALLEL else ShardedStrategy(ranks.world_size)


def data_parallel(**settings: Any) -> DDPStrategy:
    """DDP that finds out at each step which parameters the slice has used.

    A slice brings one modality set, and perhaps not every variant of it: what no rank has used keeps no gradient, as
    in one process. Buffers are never trained, so that there is nothing to send.
    """
    return DDPStrategy(find_unused_parameters=True, broadcast_buffers=False, **settings)
