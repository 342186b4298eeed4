"""Rows: how long training waits for data, and how long a resumed run waits for its first batch."""

from __future__ import annotations

from typing import Any

import torch

from modalign.bench.pictures import picture_source, slices
from modalign.bench.setting import Result, Setting
from modalign.bench.steps import Step
from modalign.bench.subject import ALIGN
from modalign.bench.timing import Contender, Ratio, paired, spread, synchronise
from modalign.errors import ModalignError
from modalign.types import Batch

_EPOCH_STEPS = 100_000  # of the epoch in which is resumed: long enough that a replay of its order would show


def measure(setting: Setting, name: str) -> Result:
    """One of the two rows."""
    return resume(setting) if name == "resume" else wait(setting)


def wait(setting: Setting) -> Result:
    """The share of the time of a few steps in which the loop stands at `next(batches)`."""
    subject, size = setting.frame, setting.size
    source = picture_source(setting, subject.settings)
    samples = min(subject.scale.samples, len(source))
    shares, lengths = [], []
    for _ in range(setting.rounds):
        batches = iter(slices(setting, source, samples, 0, size.frame_steps + 1, size.ahead))
        step = _Training(setting)
        step(next(batches))
        waited = begin = 0.0
        begin = setting.clock()
        for _ in range(size.frame_steps):
            asked = setting.clock()
            batch = next(batches)
            waited += setting.clock() - asked
            step(batch)
        total = setting.clock() - begin
        shares.append(waited / total)
        lengths.append(total / size.frame_steps)
    middle = sorted(shares)[len(shares) // 2]
    loading = f"{size.workers} workers, {size.ahead} slices ahead by a thread, {torch.get_num_threads()} threads"
    told = f"{1000 * sorted(lengths)[len(lengths) // 2]:,.0f} ms a step of {samples} pictures"
    return Result(
        Ratio(middle, min(shares), max(shares)), f"{100 * middle:.1f} % waited", told,
        loading, seconds={"step": lengths},
    )  # fmt: skip


class _Training:
    """One optimizer step of the frame's model on whatever batch comes."""

    def __init__(self, setting: Setting) -> None:
        self.subject = setting.frame
        self.batch: Batch | None = None
        self.step = Step(self.subject, ALIGN, self._loss, setting.on_gpu)
        self.step.prepare()

    def __call__(self, batch: Batch) -> None:
        """Train on it."""
        self.batch = batch.to(self.subject.device)
        self.step()
        synchronise(self.subject.device)

    def _loss(self) -> torch.Tensor:
        assert self.batch is not None
        output = self.subject.model.loss(self.batch)
        return output.loss_sum / output.weight_sum


def resume(setting: Setting) -> Result:
    """From opening the shards to the first batch, at 90 % of a long epoch and at its beginning."""
    settings = setting.frame.settings
    samples = min(setting.frame.scale.samples, setting.size.images)
    late = _EPOCH_STEPS * 9 // 10

    def first_batch(step: int) -> Any:
        source = picture_source(setting, settings)
        return next(iter(slices(setting, source, samples, step, _EPOCH_STEPS)))

    walked = iter(slices(setting, picture_source(setting, settings), samples, late - 1, _EPOCH_STEPS))
    next(walked)
    if not same_batch(next(walked), first_batch(late)):
        raise ModalignError(f"bench resume: the batch of step {late} differs from that of an unbroken run")
    seconds = setting.time(
        {
            "ours": Contender(lambda: first_batch(late) and None),
            "peer": Contender(lambda: first_batch(0) and None),
            "ours again": Contender(lambda: first_batch(late) and None),
        }
    )
    middle = len(seconds["ours"]) // 2
    return Result(
        paired(seconds["ours"], seconds["peer"]), f"{1000 * sorted(seconds['ours'])[middle]:,.0f} ms",
        f"{1000 * sorted(seconds['peer'])[middle]:,.0f} ms", f"the batch of step {late:,} equal to the bit",
        None, spread(seconds["ours"], seconds["ours again"]), seconds,
    )  # fmt: skip


def same_batch(first: Batch, second: Batch) -> bool:
    """Whether two batches hold the same samples and the same numbers."""
    media = all(torch.equal(first.media[m].values, second.media[m].values) for m in first.media)
    return media and first.keys == second.keys and torch.equal(first.text_ids, second.text_ids)
