"""How many processes run a command and which of them this is: told from the environment, before torch is imported."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from modalign.errors import ModalignError


@dataclass(frozen=True, slots=True)
class Launch:
    """This process among all: `local_size` of the `world_size` processes run on this node, numbered by `local_rank`.

    `by` says who starts the others: `torchrun`, `slurm`, or `trainer.devices` where the command does so itself;
    `to_start` is how many of them this process still has to start on its node.
    """

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    local_size: int = 1
    by: str = "trainer.devices"
    to_start: int = 0

    @property
    def num_nodes(self) -> int:
        """Nodes that take part; each has as many processes."""
        return self.world_size // self.local_size

    @property
    def node_rank(self) -> int:
        """The number of this node."""
        return self.rank // self.local_size


def read_launch(environment: Mapping[str, str], devices: int | str = 1, num_nodes: int = 1) -> Launch:
    """What torchrun, srun, this command's own first process or the settings say; ModalignError where they disagree."""
    found = _by_torchrun(environment) or _by_slurm(environment) or _by_first_process(environment)
    if found is None:
        return _by_settings(environment, devices, num_nodes)
    if found.world_size % found.local_size:
        raise ModalignError(
            f"{found.by} started {found.world_size} processes, {found.local_size} of them on this node: "
            f"start as many on every node"
        )
    for name, given, actual in (("devices", devices, found.local_size), ("num_nodes", num_nodes, found.num_nodes)):
        if given not in (1, "auto", actual):
            what = "processes a node" if name == "devices" else "nodes"
            raise ModalignError(
                f"trainer.{name}={given}, but {found.by} started {actual} {what}: leave trainer.{name} out, "
                f"or start {given}"
            )
    return found


def environment_of(launch: Launch, local_rank: int) -> dict[str, str]:
    """The variables by which a process that this one starts knows itself (those that Lightning sets, too)."""
    return {
        "LOCAL_RANK": str(local_rank),
        "NODE_RANK": str(launch.node_rank),
        "WORLD_SIZE": str(launch.world_size),
        "LOCAL_WORLD_SIZE": str(launch.local_size),
    }


def meeting_point(launch: Launch, environment: Mapping[str, str]) -> dict[str, str]:
    """Where the processes meet, as far as it has to be worked out: under SLURM on the first node, by the job's number.

    The names of torchrun's variables; what the environment says already goes before it.
    """
    if launch.by != "slurm":
        return {}
    nodes = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_NODELIST") or "127.0.0.1"
    first = re.match(r"([^\[,]+)(?:\[(\w+)[^\]]*\])?([^\[,]*)", nodes)
    numbers = [int(environment.get(f"SLURM_{name}") or 0) for name in ("JOB_ID", "STEP_ID", "RESTART_COUNT")]
    port = 15000 + (numbers[0] * 31 + numbers[1] * 7 + numbers[2]) % 15000
    return {"MASTER_ADDR": "".join(part or "" for part in first.groups()) if first else nodes, "MASTER_PORT": str(port)}


def _by_torchrun(environment: Mapping[str, str]) -> Launch | None:
    if not {"RANK", "WORLD_SIZE", "LOCAL_RANK"} <= environment.keys():
        return None
    world = int(environment["WORLD_SIZE"])
    local = int(environment.get("LOCAL_WORLD_SIZE", world))
    return Launch(int(environment["RANK"]), int(environment["LOCAL_RANK"]), world, local, "torchrun")


def _by_slurm(environment: Mapping[str, str]) -> Launch | None:
    """A task of srun; a job script itself, or a step of one task, starts its processes as anywhere else."""
    if not {"SLURM_STEP_ID", "SLURM_PROCID", "SLURM_LOCALID"} <= environment.keys():
        return None
    world = int(environment.get("SLURM_STEP_NUM_TASKS") or environment.get("SLURM_NTASKS") or 1)
    nodes = int(environment.get("SLURM_STEP_NUM_NODES") or environment.get("SLURM_NNODES") or 1)
    if world == 1:
        return None
    if world % nodes:
        raise ModalignError(f"slurm started {world} tasks on {nodes} nodes: give srun as many tasks on every node")
    return Launch(int(environment["SLURM_PROCID"]), int(environment["SLURM_LOCALID"]), world, world // nodes, "slurm")


def _by_first_process(environment: Mapping[str, str]) -> Launch | None:
    if not {"LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"} <= environment.keys():
        return None
    local, local_rank = int(environment["LOCAL_WORLD_SIZE"]), int(environment["LOCAL_RANK"])
    rank = int(environment["NODE_RANK"]) * local + local_rank
    return Launch(rank, local_rank, int(environment["WORLD_SIZE"]), local)


def _by_settings(environment: Mapping[str, str], devices: int | str, num_nodes: int) -> Launch:
    local = _visible_devices(environment) if devices == "auto" else int(devices)
    if num_nodes > 1 and not {"MASTER_ADDR", "MASTER_PORT", "NODE_RANK"} <= environment.keys():
        raise ModalignError(
            f"trainer.num_nodes={num_nodes}, but nothing says where the nodes meet: start with torchrun or srun, or "
            f"set MASTER_ADDR, MASTER_PORT and NODE_RANK on each node"
        )
    node = int(environment.get("NODE_RANK", 0)) if num_nodes > 1 else 0
    return Launch(node * local, 0, local * num_nodes, local, to_start=local - 1)


def _visible_devices(environment: Mapping[str, str]) -> int:
    """GPUs of this node as the driver lists them, 1 where there is none; asking torch would take seconds."""
    listed = environment.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        return max(1, len([name for name in listed.split(",") if name.strip() not in ("", "-1")]))
    return max(1, len(list(Path("/dev").glob("nvidia[0-9]*")))) if os.name == "posix" else 1
