"""Rows: what a training framework costs around the same step on the same batches."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from modalign.bench.examine import relative
from modalign.bench.loops import Course, lightning_loop, our_loop, raw_loop
from modalign.bench.setting import Result, Setting
from modalign.bench.steps import per_second
from modalign.bench.timing import Contender, paired, spread
from modalign.errors import ModalignError

_FINE = 3  # what a framework costs is a hundredth of a step: so many times the rounds
_PADDED_STEPS = 8  # batches of many samples
_ALIKE = 1e-3  # after so many steps of AdamW, whose first ones make a sign out of rounding
_ALIKE_IN_HALF = 0.2  # bfloat16 rounds to three digits, and the sign of a small gradient with them


def measure(setting: Setting, name: str) -> Result:
    """Ours against the framework of the row; after a round both must have arrived at the same weights."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # which the Trainer imports: it misses a kernel on a CPU
    from modalign.bench.hub_trainer import hub_loop, padding_flops, padding_loop

    peer = {
        "lightning": raw_loop,
        "stock_lightning": lightning_loop,
        "hf_trainer": hub_loop,
        "hf_padding": padding_loop,
    }
    subject, pads = setting.frame, name == "hf_padding"
    steps, samples = (_PADDED_STEPS, setting.size.padded) if pads else (setting.size.frame_steps, None)
    batches = [subject.captions(10 + number, samples) for number in range(steps)]
    course = Course(subject, batches, setting.clock, setting.folder)
    apart = agreement(course, name, our_loop, peer[name])
    rounds = setting.rounds * (1 if pads else _FINE)
    seconds = setting.time(
        {
            "ours": Contender(lambda: our_loop(course), course.restart),
            "peer": Contender(lambda: peer[name](course), course.restart),
            "ours again": Contender(lambda: our_loop(course), course.restart),
        },
        rounds,
    )
    again = spread(seconds["ours"], seconds["ours again"])
    middle = sorted(seconds["ours"])[rounds // 2]
    return Result(
        paired(seconds["peer"], seconds["ours"]), f"{1000 * middle:,.1f} ms a step",
        f"{1000 * sorted(seconds['peer'])[rounds // 2]:,.1f} ms a step",
        f"weights apart by {apart:.1e} after {len(batches)} steps; {per_second(batches[0].num_samples, [middle])}",
        padding_flops(course) if pads else None, again, seconds,
    )  # fmt: skip


def agreement(course: Course, name: str, *loops: object) -> float:
    """How far the steps of two loops lead to different weights, relative to how far they went."""
    moved: list[list[Tensor]] = []
    for loop in loops:
        course.restart()
        loop(course)  # type: ignore[operator]
        moved.append([(now - begin).cpu() for now, begin in zip(course.trained, course.start, strict=True)])
    course.restart()
    apart = relative(*moved)
    most = _ALIKE_IN_HALF if course.subject.half else _ALIKE
    if not apart <= most or not any(bool(torch.any(step != 0)) for step in moved[0]):
        raise ModalignError(
            f"bench {name}: the weights of both loops are apart by {apart:.1e} of the "
            f"way that {len(course.batches)} steps went (at most {most:.0e}): nothing is timed"
        )
    return apart
