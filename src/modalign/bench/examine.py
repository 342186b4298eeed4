"""A step looked at closely before it is timed: loss, gradients, FLOPs, highest bytes; and whether a peer's agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from modalign.errors import ModalignError
from modalign.stages.forecast.meter import Meter

# Relative differences that rounding explains; half precision rounds every product to 8 bits.
FLOAT32, HALF = (1e-5, 1e-5), (5e-3, 5e-2)


@dataclass(frozen=True)
class Examined:
    """`peak_bytes`: of activations and gradients; on a GPU, of everything that was allocated."""

    loss: float
    gradients: dict[str, Tensor]
    flops: int
    peak_bytes: int


def examine(model: nn.Module, loss: Callable[[], Tensor]) -> Examined:
    """Run `loss` and its backward pass once, counting; gradients of what trains are taken off the model."""
    model.zero_grad(set_to_none=True)
    on_gpu = next(model.parameters()).device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    with Meter() as meter:
        for tensor in (*model.parameters(), *model.buffers()):
            meter.know(tensor, "")
        value = loss()
        value.backward()
        result = value.detach().item()
    peak = torch.cuda.max_memory_allocated() if on_gpu else meter.tape.peak
    gradients = {name: p.grad.detach().cpu() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return Examined(result, gradients, sum(meter.tape.flops.values()), peak)


def agree(ours: Examined, peer: Examined, half: bool, row: str) -> str:
    """That loss and gradients (of what both train) are equal to rounding, in words; else an error."""
    loss = abs(ours.loss - peer.loss) / abs(peer.loss)
    shared = ours.gradients.keys() & peer.gradients.keys()
    gradient = relative([ours.gradients[name] for name in shared], [peer.gradients[name] for name in shared])
    most_loss, most_gradient = HALF if half else FLOAT32
    if not shared or not (loss <= most_loss and gradient <= most_gradient):
        raise ModalignError(
            f"bench {row}: ours and its peer do not compute the same: loss {ours.loss:.6f} and {peer.loss:.6f}, "
            f"gradients of {len(shared)} tensors apart by {gradient:.1e} (at most {most_gradient:.0e}): not timed"
        )
    return f"loss {ours.loss:.5f}, apart by {loss:.1e}; gradients by {gradient:.1e}"


def relative(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """The length of the difference over the length of theirs, of all tensors together."""
    apart = sum((a.double() - b.double()).pow(2).sum().item() for a, b in zip(ours, theirs, strict=True))
    length = sum(b.double().pow(2).sum().item() for b in theirs)
    return (apart / max(length, 1e-30)) ** 0.5
