"""What the figures were taken on: processor, threads, load, versions, and how fast it multiplies matrices."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from modalign.runs.checks import processor

PACKAGES = ("torch", "lightning", "transformers", "open_clip_torch", "webdataset", "accelerate", "numpy")


def machine(device: torch.device) -> dict[str, Any]:
    """The machine as a person would name it."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "kernels": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "load": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "date": time.strftime("%Y-%m-%d"),
    }


def _processor() -> str:
    """The processor's name, and which of the instructions that decide a product's speed it has."""
    name = processor()
    try:
        words = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return name
    found = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in words]
    return f"{name} ({' '.join(found)})" if found else name


class Gemm:
    """A square product of random numbers; `rate` turns its seconds into FLOP/s."""

    def __init__(self, size: int, dtype: torch.dtype, device: torch.device) -> None:
        self.size = size
        self.repeats = 1 if device.type == "cpu" else 20  # a GPU's take less than what starts them
        self.left = torch.randn(size, size, device=device).to(dtype)
        self.right = torch.randn(size, size, device=device).to(dtype)
        self.out = torch.empty(size, size, dtype=dtype, device=device)

    def __call__(self) -> None:
        """The product, as often as it takes."""
        for _ in range(self.repeats):
            torch.mm(self.left, self.right, out=self.out)

    def rate(self, seconds: float) -> float:
        """FLOP/s."""
        return 2.0 * self.size**3 * self.repeats / seconds
