"""Rows: the highest bytes of a step, and of the loss head by itself."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from modalign.bench.examine import Examined, agree, examine
from modalign.bench.language import entering
from modalign.bench.setting import Result, Setting
from modalign.bench.steps import Step, ours, published
from modalign.bench.subject import ALIGN, training
from modalign.bench.timing import Ratio
from modalign.models.loss import IGNORED, supervised_loss


def measure(setting: Setting, name: str) -> Result:
    """One of the two rows."""
    return step_peak(setting) if name == "memory" else head_peak(setting)


def step_peak(setting: Setting) -> Result:
    """Weights, AdamW's state, gradients and activations at their highest, ours and the published step's."""
    subject = setting.half if setting.on_gpu else setting.step
    batch = subject.captions(0)
    mine = ours(subject, ALIGN, batch, setting.on_gpu)
    peer = published(subject, ALIGN, batch, subject.scale.caption_pad, setting.on_gpu)
    seen, wanted = mine.examined(), peer.examined()
    agreement = agree(seen, wanted, setting.on_gpu, "memory")
    totals = [_total(step, found) for step, found in ((peer, wanted), (mine, seen))]
    value = totals[0] / totals[1]
    working = f"{seen.peak_bytes / 1e6:,.0f} and {wanted.peak_bytes / 1e6:,.0f} MB without weights and optimizer"
    return Result(
        Ratio(value, value, value),
        f"{totals[1] / 1e6:,.0f} MB",
        f"{totals[0] / 1e6:,.0f} MB",
        f"{agreement}; {working}",
    )


def _total(step: Step, found: Examined) -> int:
    """With the optimizer's two moments, and with the weights where the peak does not hold them."""
    moments = 2 * sum(p.nbytes for p in step.subject.model.parameters() if p.requires_grad)
    tensors = (*step.subject.model.parameters(), *step.subject.model.buffers())
    weights = 0 if step.subject.device.type == "cuda" else sum(t.nbytes for t in tensors)
    return found.peak_bytes + moments + weights


def head_peak(setting: Setting) -> Result:
    """From hidden states to the loss and back: ours, and logits at every position of texts padded to fixed length."""
    subject = setting.half if setting.on_gpu else setting.step
    composed = entering(subject, 0)
    around = int(composed.attention_mask[0].sum()) - subject.captions(0).layout[0][-1].length
    padding = max(0, around + subject.scale.caption_pad - 1 - composed.labels.shape[1])
    labels = F.pad(composed.labels, (0, padding), value=IGNORED)[:, around - 1 :]  # of the published code's positions
    model = subject.model
    hidden = torch.randn(*labels.shape, model.llm.width, device=subject.device, dtype=composed.embeddings.dtype)
    ones = torch.ones_like(labels, dtype=torch.float32)

    def labelled() -> Tensor:
        given = hidden.clone().requires_grad_()
        output = supervised_loss(given, labels, ones, model.llm.logits, model.llm.frozen_head)
        return output.loss_sum / output.weight_sum

    def everywhere() -> Tensor:
        logits = model.llm.logits(hidden.clone().requires_grad_()).float()
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)

    with training(model, ALIGN):
        seen, wanted = examine(model, labelled), examine(model, everywhere)
    value = seen.peak_bytes / wanted.peak_bytes
    return Result(
        Ratio(value, value, value), f"{seen.peak_bytes / 1e6:,.1f} MB", f"{wanted.peak_bytes / 1e6:,.1f} MB",
        f"{int((labels != IGNORED).sum())} of {labels.numel()} positions supervised; "
        f"losses apart by {abs(seen.loss - wanted.loss) / wanted.loss:.1e}",
        seen.flops / wanted.flops,
    )  # fmt: skip
