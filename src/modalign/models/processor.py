"""What a processor multiplies fast: what decides which exact library or precision a product takes on a CPU."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import torch


@cache
def capabilities() -> Mapping[str, Any]:
    """The processor's name and instructions as torch tells them; empty where it does not."""
    return getattr(torch.cpu, "get_capabilities", dict)()


def is_amd_with_avx512() -> bool:
    """Whether it is AMD's and has AVX-512, which MKL leaves unused there."""
    known = capabilities()
    return "AMD" in str(known.get("cpu_name", "")) and bool(known.get("avx512_f"))


def multiplies_half_fast() -> bool:
    """Whether products in bfloat16 are faster than in float32: by tiles (AMX), or on AMD by AVX-512's instructions.

    On Intel without tiles those reach half of what float32 does (experiments/speed).
    """
    known = capabilities()
    return bool(known.get("amx_bf16")) or (is_amd_with_avx512() and bool(known.get("avx512_bf16")))
