"""Rows: the language model by itself, frozen against trained, and packed at mixed lengths against equal ones."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from modalign.bench.examine import agree
from modalign.bench.setting import Result, Setting
from modalign.bench.steps import Step, per_second
from modalign.bench.subject import ALIGN, INSTRUCT, PADDED, RELEASED, Subject, attending
from modalign.bench.timing import paired, spread
from modalign.models.fusion.sequence import Composed
from modalign.models.packed_attention import PACKED, kernel_of


def measure(setting: Setting, name: str) -> Result:
    """One of the two rows."""
    subject = setting.half if setting.on_gpu else setting.step
    return frozen(setting, subject) if name == "frozen" else packing(setting, subject)


def frozen(setting: Setting, subject: Subject) -> Result:
    """Forward and backward of a language model that passes gradients on, over those of one that trains as well."""
    composed = entering(subject, 0)
    still, trained = (speaking(setting, subject, parts, composed) for parts in (ALIGN, RELEASED))
    again = speaking(setting, subject, ALIGN, composed)
    less, more = still.examined(), trained.examined()
    seconds = setting.time({"ours": still.contender, "peer": trained.contender, "ours again": again.contender})
    count = len(composed.labels)
    return Result(
        paired(seconds["ours"], seconds["peer"]), per_second(count, seconds["ours"]),
        per_second(count, seconds["peer"]), f"losses apart by {abs(less.loss - more.loss):.1e}",
        less.flops / more.flops, spread(seconds["ours"], seconds["ours again"]), seconds,
    )  # fmt: skip


def packing(setting: Setting, subject: Subject) -> Result:
    """Tokens a second of captions of all lengths, packed, over those of captions all of one length."""
    mixed = entering(subject, 0)
    tokens = int(mixed.attention_mask.sum())
    equal = entering(subject, 0, length=round(tokens / len(mixed.labels)))
    same = int(equal.attention_mask.sum())
    packed, padded = (speaking(setting, subject, INSTRUCT, mixed, kind).examined() for kind in (PACKED, PADDED))
    agreement = agree(packed, padded, subject.half, "packing")
    step, again = (speaking(setting, subject, ALIGN, mixed, PACKED) for _ in range(2))
    ideal = speaking(setting, subject, ALIGN, equal, PADDED)
    seconds = setting.time({"ours": step.contender, "peer": ideal.contender, "ours again": again.contender})
    return Result(
        paired(seconds["peer"], seconds["ours"], tokens / same), per_second(tokens, seconds["ours"], "tokens/s"),
        per_second(same, seconds["peer"], "tokens/s"),
        f"{tokens} and {same} tokens, none of them padding; {kernel(subject)}; {agreement}", None,
        spread(seconds["ours"], seconds["ours again"]), seconds,
    )  # fmt: skip


def kernel(subject: Subject) -> str:
    """Which kernel a packed row's attention takes here."""
    config = subject.model.llm.model.config
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    dtype = torch.bfloat16 if subject.half else torch.float32
    return f"attention {kernel_of(subject.device, dtype, width)}"


@torch.no_grad()
def entering(subject: Subject, seed: int, length: int | None = None) -> Composed:
    """What enters the language model for a batch of captions; `length`: positions of each sample, all alike."""
    lengths = None
    if length is not None:
        around = int(subject.model.compose(subject.captions(seed, 1, torch.tensor([1]))).attention_mask.sum()) - 1
        lengths = torch.full((subject.scale.samples,), max(1, length - around))
    composed = subject.model.compose(subject.captions(seed, lengths=lengths))
    return replace(composed, embeddings=composed.embeddings.detach())


def speaking(
    setting: Setting, subject: Subject, parts: tuple[str, ...], composed: Composed, attention: str | None = None
) -> Step:
    """Forward and backward of the language model and its loss, gradients flowing back to what entered."""

    def loss() -> Tensor:
        embeddings = composed.embeddings.clone().requires_grad_()
        with attending(subject.model, attention):
            output = subject.model.language_loss(replace(composed, embeddings=embeddings))
        return output.loss_sum / output.weight_sum

    return Step(subject, parts, loss, setting.on_gpu, optimizes=False)
