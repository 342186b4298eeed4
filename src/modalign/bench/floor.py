"""Rows: how much of the machine a step gets, against products of matrices timed in the same rounds."""

from __future__ import annotations

import torch

from modalign.bench.machine import Gemm
from modalign.bench.setting import Result, Setting
from modalign.bench.steps import Step, ours, per_second
from modalign.bench.subject import ALIGN, INSTRUCT
from modalign.bench.timing import Contender, paired, spread


def measure(setting: Setting, name: str) -> Result:
    """FLOPs of our step over its seconds, over the rate of a square product in the step's precision."""
    half = name != "floor"
    subject = setting.half if half else setting.step
    instructs = name == "floor_instruct"
    batch = subject.conversations(1) if instructs else subject.captions(0)
    step = ours(subject, INSTRUCT if instructs else ALIGN, batch, half, setting.size.optimizer)
    again = Step(subject, step.parts, step.loss, step.half, step.optimizes)
    seen = step.examined()
    gemm = Gemm(setting.size.gemm, torch.bfloat16 if half else torch.float32, setting.device)
    seconds = setting.time({"ours": step.contender, "gemm": Contender(gemm), "ours again": again.contender})
    share = paired(seconds["gemm"], seconds["ours"], seen.flops / gemm.rate(1.0))
    middle = len(seconds["gemm"]) // 2
    rate = gemm.rate(sorted(seconds["gemm"])[middle])
    used = seen.flops / sorted(seconds["ours"])[middle]
    return Result(
        share, f"{_flops(used)} at {per_second(batch.num_samples, seconds['ours'])}", f"{_flops(rate)} (GEMM)",
        f"{seen.flops / 1e9:,.0f} GFLOP a step, counted", None,
        spread(seconds["ours"], seconds["ours again"]), seconds,
    )  # fmt: skip


def _flops(rate: float) -> str:
    return f"{rate / 1e12:.3g} TFLOP/s" if rate >= 1e12 else f"{rate / 1e9:.3g} GFLOP/s"
