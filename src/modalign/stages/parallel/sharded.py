"""FSDP2: parameters, gradients and optimizer state in shards over the processes, block by block.

Every process has to gather the same units in the same order, whatever its samples: units are blocks that every slice
of a source runs, the rest of the model is one unit that is whole during a step, and every trained parameter of that
rest is given a gradient, which is taken back where no process has used it.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from modalign.errors import ModalignError
from modalign.models.blocks import experts, large_blocks
from modalign.models.shards import reached, touching
from modalign.stages.checkpoint_io import GATHERED


def shard(model: nn.Module, mesh: DeviceMesh) -> None:
    """Shard a model in place: each large block, each expert, and the rest."""
    scalars = _check(model)
    for unit in (*large_blocks(model), *experts(model)):
        fully_shard(unit, mesh=mesh, ignored_params=scalars)
    fully_shard(model, mesh=mesh, reshard_after_forward=False, ignored_params=scalars)
    if hasattr(model, "group_lengths"):
        model.group_lengths = False  # type: ignore[assignment]
    for entry in getattr(model, "entries", ()):
        register_fsdp_forward_method(model, entry)


def _check(model: nn.Module) -> set[nn.Parameter]:
    """Frozen scalars, which stay whole; ModalignError for what cannot be sharded."""
    scalars = set()
    for name, parameter in model.named_parameters():
        if not parameter.is_floating_point():
            raise ModalignError(
                f"trainer.engine=fsdp2 cannot shard {name}, whose numbers are quantized ({parameter.dtype}): "
                f"set trainer.engine=ddp, or load the language model without quantization"
            )
        if parameter.ndim == 0:
            if parameter.requires_grad:
                raise ModalignError(
                    f"trainer.engine=fsdp2 cannot shard {name}, a single number that trains: give it one axis"
                )
            scalars.add(parameter)
    return scalars


class Usage:
    """Which parameters of the model's last unit some process has used since the last optimizer step."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.names: list[str] = []
        self.used: set[str] = set()

    def note(self, loss: Tensor) -> Tensor:
        """Remember what `loss` depends on; the loss that all processes can take the gradient of alike."""
        rest = {
            name: parameter
            for name, parameter in self.model.named_parameters()
            if parameter.requires_grad and not isinstance(parameter, DTensor)
        }
        here = reached(loss)
        self.names = list(rest)
        self.used |= {name for name, parameter in rest.items() if id(parameter) in here}
        return touching(loss, [parameter for parameter in rest.values() if id(parameter) not in here])

    def flags(self) -> list[int]:
        """1 for each parameter that was used here, in an order that all processes share."""
        return [int(name in self.used) for name in self.names]

    def forget(self, anywhere: list[int]) -> None:
        """Take the gradient back from what was used nowhere (`flags` of all processes), and begin anew."""
        parameters = dict(self.model.named_parameters())
        for name, used in zip(self.names, anywhere, strict=True):
            if not used:
                parameters[name].grad = None
        self.used = set()


class ShardedStrategy(ModelParallelStrategy):
    """Lightning's FSDP2 with our checkpoints (whole tensors by part, written by the first process)."""

    def __init__(self, world_size: int) -> None:
        super().__init__(data_parallel_size=world_size, tensor_parallel_size=1)

    @property
    def lightning_restore_optimizer(self) -> bool:
        """The optimizer's state is in our checkpoints, as every engine's."""
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """What the stage's module says: the whole tensors of what trains."""
        assert self.lightning_module is not None
        return self.lightning_module.state_dict()

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Give the module its whole tensors, which it cuts."""
        assert self.lightning_module is not None
        self.lightning_module.load_state_dict(checkpoint["state_dict"], strict=strict)

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """As any strategy's: the optimizer gathers its own state."""
        return Strategy.optimizer_state(self, optimizer)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """As any strategy's: the optimizer cuts its own state."""
        Strategy.load_optimizer_state_dict(self, checkpoint)

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        """The first process writes what all have gathered."""
        Strategy.save_checkpoint(self, checkpoint, filepath, storage_options or GATHERED)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Every process reads."""
        return Strategy.load_checkpoint(self, checkpoint_path, weights_only)

    @contextmanager
    def block_backward_sync(self) -> Generator[None, None, None]:
        """While gradients accumulate nothing is sent; they are reduced once, with the last slice of a step."""
        assert self.lightning_module is not None
        units = [module for module in self.lightning_module.modules() if isinstance(module, FSDPModule)]
        for unit in units:
            unit.set_requires_gradient_sync(False, recurse=False)
        try:
            yield
        finally:
            for unit in units:
                unit.set_requires_gradient_sync(True, recurse=False)
