"""A small bench for every change: fails only on ratios far below what they should be."""

import importlib

import pytest
import torch

from modalign.bench import frameworks
from modalign.bench.rows import ROWS
from modalign.bench.setting import Setting
from modalign.bench.sizes import SIZES
from modalign.bench.timing import CLOCKS

# Ratios that this size reaches even on a busy machine, times about two thirds (processor time, one thread).
FLOORS = {
    "align_released": 1.1, "align": 0.9, "instruct_released": 1.8, "frozen": 0.95, "head": 0.6, "memory": 1.1,
    "lightning": 0.6, "loader_raw": 1.5, "generation": 2.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    torch.set_num_threads(1)
    return Setting(SIZES["small"], torch.device("cpu"), CLOCKS["processor"], 3, tmp_path_factory.mktemp("small"))


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("name", FLOORS)
def test_nothing_has_become_far_slower_than_its_peer(small, name, monkeypatch):
    monkeypatch.setattr(frameworks, "_FINE", 1)  # what is far slower shows in as many rounds as the others take
    ratio = importlib.import_module(f"modalign.bench.{ROWS[name].module}").measure(small, name).ratio
    if ROWS[name].less:
        assert ratio.low <= FLOORS[name]
    else:
        assert ratio.high >= FLOORS[name]
