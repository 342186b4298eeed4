"""Rows: one optimizer step of ours against the published step, on the same weights and the same samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from modalign.bench.examine import Examined, agree, examine
from modalign.bench.published import padded_text, published_loss
from modalign.bench.setting import Result, Setting
from modalign.bench.subject import ALIGN, INSTRUCT, MODALITY, RELEASED, Subject
from modalign.bench.timing import Contender, paired, spread
from modalign.models.freezing import plan_freeze
from modalign.models.linear import MKL, using
from modalign.types import Batch


@dataclass
class Step:
    """Forward, backward and AdamW on the parts that train; its rate is zero, so that weights stay what they are."""

    subject: Subject
    parts: tuple[str, ...]
    loss: Callable[[], Tensor]
    half: bool = False
    optimizes: bool = True
    optimizer: torch.optim.Optimizer | None = field(default=None, init=False)

    def prepare(self) -> None:
        """Let these parts train, others not: contenders share one model."""
        model = self.subject.model
        plan_freeze(model, self.parts).apply(model)
        if self.optimizer is None and self.optimizes:
            trained = [p for p in model.parameters() if p.requires_grad]
            self.optimizer = torch.optim.AdamW(trained, lr=0.0, weight_decay=0.0, fused=True)

    def compute(self) -> Tensor:
        """The loss, in the step's precision."""
        with torch.autocast(self.subject.device.type, dtype=torch.bfloat16, enabled=self.half):
            return self.loss()

    def __call__(self) -> None:
        """One optimizer step."""
        self.compute().backward()
        if self.optimizer is not None:
            self.optimizer.step()
        self.subject.model.zero_grad(set_to_none=True)

    def examined(self) -> Examined:
        """Its loss, gradients, FLOPs and bytes."""
        self.prepare()
        return examine(self.subject.model, self.compute)

    @property
    def contender(self) -> Contender:
        """The step, to be timed."""
        return Contender(self, self.prepare)


def ours(subject: Subject, parts: tuple[str, ...], batch: Batch, half: bool, optimizes: bool = True) -> Step:
    """Our step: the model's own loss, divided by what is supervised."""

    def loss() -> Tensor:
        output = subject.model.loss(batch)
        return output.loss_sum / output.weight_sum

    return Step(subject, parts, loss, half, optimizes)


def published(
    subject: Subject, parts: tuple[str, ...], batch: Batch, length: int | None, half: bool, optimizes: bool = True
) -> Step:
    """The published step on texts padded to `length` (None: to the batch's longest)."""
    ids, labels = padded_text(batch, length)
    pictures = batch.media[MODALITY].values

    def loss() -> Tensor:
        with using(MKL):  # torch's own linear maps
            return published_loss(subject.model, pictures, ids, labels)

    return Step(subject, parts, loss, half, optimizes)


def measure(setting: Setting, name: str) -> Result:
    """One of the rows, by name; on a GPU all are in bfloat16."""
    half = setting.on_gpu or name == "align_bf16"
    subject = setting.half if half else setting.step
    scale, optimizes = subject.scale, setting.size.optimizer
    batch = subject.conversations(1) if name.startswith("instruct") else subject.captions(0)
    trains = INSTRUCT if name.startswith("instruct") else ALIGN
    theirs, length = {
        "align_released": (RELEASED, scale.caption_pad),
        "instruct_released": (RELEASED, scale.chat_pad),
        "instruct": (INSTRUCT, None),
    }.get(name, (trains, scale.caption_pad))
    mine = ours(subject, trains, batch, half, optimizes)
    peer = published(subject, theirs, batch, length, half, optimizes)
    return compare(setting, name, mine, peer, batch.num_samples)


def compare(setting: Setting, name: str, mine: Step, peer: Step, samples: int) -> Result:
    """Assert that both agree, then time them."""
    seen, wanted = mine.examined(), peer.examined()
    agreement = agree(seen, wanted, mine.half, name)
    again = Step(mine.subject, mine.parts, mine.loss, mine.half, mine.optimizes)
    seconds = setting.time({"ours": mine.contender, "peer": peer.contender, "ours again": again.contender})
    ratio = paired(seconds["peer"], seconds["ours"])
    return Result(
        ratio, per_second(samples, seconds["ours"]), per_second(samples, seconds["peer"]), agreement,
        wanted.flops / seen.flops, spread(seconds["ours"], seconds["ours again"]), seconds,
        (seen.flops, wanted.flops), "bfloat16" if mine.half else "float32",
    )  # fmt: skip


def per_second(count: float, seconds: list[float], unit: str = "samples/s") -> str:
    """How many a second, in the median round."""
    rate = count / sorted(seconds)[len(seconds) // 2]
    return f"{rate:,.0f} {unit}" if rate >= 100 else f"{rate:.3g} {unit}"
