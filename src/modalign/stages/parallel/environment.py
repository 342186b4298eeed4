"""What Lightning is told of the processes: they are there already, connected, and are not to be requeued by it."""

from __future__ import annotations

import os

from lightning.pytorch.plugins.environments import ClusterEnvironment

from modalign.runs.ranks import Ranks


class RanksEnvironment(ClusterEnvironment):
    """The ranks of a launch, whoever started them; without it Lightning would guess from the environment's names."""

    def __init__(self, ranks: Ranks) -> None:
        super().__init__()
        self.ranks = ranks

    @property
    def creates_processes_externally(self) -> bool:
        """Always: the processes run already."""
        return True

    @property
    def main_address(self) -> str:
        """Where the first process is met."""
        return os.environ.get("MASTER_ADDR", "127.0.0.1")

    @property
    def main_port(self) -> int:
        """The port there."""
        return int(os.environ.get("MASTER_PORT", "0"))

    @staticmethod
    def detect() -> bool:
        """Never by itself: it is given."""
        return False

    def world_size(self) -> int:
        """How many processes there are."""
        return self.ranks.world_size

    def set_world_size(self, size: int) -> None:
        """Nothing: it is known."""

    def global_rank(self) -> int:
        """The number of this process."""
        return self.ranks.rank

    def set_global_rank(self, rank: int) -> None:
        """Nothing: it is known."""

    def local_rank(self) -> int:
        """Its number on its node."""
        return self.ranks.launch.local_rank

    def node_rank(self) -> int:
        """The number of its node."""
        return self.ranks.launch.node_rank
