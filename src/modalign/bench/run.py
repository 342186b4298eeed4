"""Runs the rows asked for and judges each by its bars, where the size is the one that they are meant for."""

from __future__ import annotations

import gc
import importlib
import statistics
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from modalign.bench.machine import Gemm, machine
from modalign.bench.rows import CPU, GPU, ROWS, Bar, Row
from modalign.bench.setting import Result, Setting
from modalign.bench.sizes import SIZES
from modalign.bench.timing import CLOCKS, Contender
from modalign.errors import ModalignError

MAX_SPREAD = 0.05  # of ours against itself; beyond it a ratio is told, but not judged


@dataclass(frozen=True)
class Verdict:
    """One row's result beside its bar; `word`: target, gate, below, or why it is not judged."""

    name: str
    row: Row
    result: Result
    bar: Bar | None
    word: str


@dataclass(frozen=True)
class Report:
    """All rows of one call, and what they were measured on."""

    size: str
    clock: str
    rounds: int
    machine: dict[str, Any]
    gemm: dict[str, float]
    changes: tuple[str, ...]
    verdicts: list[Verdict]

    def to_dict(self) -> dict[str, Any]:
        """Plain values; seconds of every round are among them."""
        return {
            "size": self.size, "clock": self.clock, "rounds": self.rounds, "machine": self.machine, "gemm": self.gemm,
            "changes": list(self.changes),
            "rows": {
                v.name: asdict(v.result) | {"title": v.row.title, "less": v.row.less, "verdict": v.word,
                                            "bar": None if v.bar is None else asdict(v.bar)}
                for v in self.verdicts
            },
        }  # fmt: skip


def run_rows(
    names: Sequence[str],
    size: str,
    device: torch.device,
    clock: str,
    rounds: int,
    tell: Callable[[Verdict], None],
    changes: tuple[str, ...] = (),
) -> Report:
    """Measure each row in turn; `tell` hears of each when it is done."""
    with tempfile.TemporaryDirectory(prefix="modalign-bench-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        setting = Setting(SIZES[size], device, CLOCKS[clock], rounds, Path(folder), changes)
        facts = machine(device)
        rates = gemm_rates(setting)
        verdicts = []
        for name in names:
            result = importlib.import_module(f"modalign.bench.{ROWS[name].module}").measure(setting, name)
            verdicts.append(judge(name, result, size, device))
            tell(verdicts[-1])
            gc.collect()
    return Report(size, clock, rounds, facts, rates, changes, verdicts)


def gemm_rates(setting: Setting) -> dict[str, float]:
    """FLOP/s of a square product in both precisions, interleaved, the median of the rounds."""
    kinds = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    products = {name: Gemm(setting.size.gemm, dtype, setting.device) for name, dtype in kinds.items()}
    seconds = setting.time({name: Contender(product) for name, product in products.items()})
    return {name: product.rate(statistics.median(seconds[name])) for name, product in products.items()}


def judge(name: str, result: Result, size: str, device: torch.device) -> Verdict:
    """What a ratio is worth by its bar."""
    row = ROWS[name]
    kind = GPU if device.type == "cuda" else CPU
    bar = row.bars.get(kind)
    if bar is None:
        word = "no bar"
    elif SIZES[size].judged != kind:
        word = "no bar at this size"
    elif result.spread is not None and result.spread > MAX_SPREAD:
        word = f"not judged: ours differs from itself by {100 * result.spread:.0f} %"
    else:
        word = "target" if reaches(row, result, bar.target) else "gate" if reaches(row, result, bar.gate) else "below"
    return Verdict(name, row, result, bar, word)


def reaches(row: Row, result: Result, bar: float) -> bool:
    """Whether the ratio is as good as a bar."""
    return result.ratio.value <= bar if row.less else result.ratio.value >= bar


def choose_device(name: str) -> torch.device:
    """The device by name; `auto` is a GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ModalignError(f"--device {name}: torch sees no GPU here; use --device cpu")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise ModalignError(f"--device {name}: {str(error).splitlines()[0]}; use auto, cpu or cuda") from None
