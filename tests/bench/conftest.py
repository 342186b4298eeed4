"""One tiny setting of the bench for all its tests, on one thread."""

import pytest
import torch

from modalign.bench.setting import Setting
from modalign.bench.sizes import SIZES
from modalign.bench.timing import CLOCKS


class LikeOnGpu(Setting):
    """The path that a GPU takes, computed on the CPU: half precision throughout, one model for all rows."""

    on_gpu = True


@pytest.fixture(scope="session")
def setting(tmp_path_factory):
    torch.set_num_threads(1)
    return Setting(SIZES["tiny"], torch.device("cpu"), CLOCKS["processor"], 2, tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="session")
def like_on_gpu(tmp_path_factory):
    torch.set_num_threads(1)
    return LikeOnGpu(SIZES["tiny"], torch.device("cpu"), CLOCKS["processor"], 1, tmp_path_factory.mktemp("gpu"))
