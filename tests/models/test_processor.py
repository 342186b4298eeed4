"""Which products are fast is told by the processor's name and instructions."""

import pytest
import torch

from modalign.models import processor
from modalign.models.processor import capabilities, multiplies_half_fast


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({"cpu_name": "AMD EPYC", "avx512_f": True, "avx512_bf16": True}, True),
        ({"cpu_name": "AMD EPYC", "avx512_f": True, "avx512_bf16": False}, False),
        ({"cpu_name": "Intel Xeon", "avx512_f": True, "avx512_bf16": True, "amx_bf16": True}, True),
        ({"cpu_name": "Intel Xeon", "avx512_f": True, "avx512_bf16": True, "amx_bf16": False}, False),
        ({}, False),
    ],
)
def test_half_precision_is_fast_by_tiles_or_on_amd(known, expected, monkeypatch):
    monkeypatch.setattr(processor, "capabilities", lambda: known)
    assert multiplies_half_fast() is expected


def test_a_torch_that_tells_nothing_is_taken_for_a_plain_processor(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    capabilities.cache_clear()
    try:
        assert capabilities() == {}
        assert multiplies_half_fast() is False
    finally:
        capabilities.cache_clear()
