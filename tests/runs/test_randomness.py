"""The state of the global generators."""

import random

import numpy as np
import torch

from modalign.runs.checkpoint import load_checkpoint, save_checkpoint
from modalign.runs.randomness import capture_randomness, restore_randomness


def draw():
    return [random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.rand(()).item()]


def test_all_generators_go_on_where_a_checkpoint_left_them(tmp_path):
    draw()
    path = save_checkpoint(tmp_path, 1, {}, {"random": capture_randomness()})
    expected = [draw(), draw()]
    random.seed(99)
    np.random.seed(99)
    torch.manual_seed(99)
    restore_randomness(load_checkpoint(path).state["random"])
    assert [draw(), draw()] == expected
