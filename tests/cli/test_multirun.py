"""What a sweep needs is told in one line."""

import sys

import pytest

from modalign.cli.arguments import TrainArguments
from modalign.cli.multirun import sweep
from modalign.errors import ModalignError


def test_a_launcher_that_is_not_installed_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "hydra_plugins.hydra_submitit_launcher", None)
    words = ["--multirun", "hydra/launcher=submitit_slurm", "stage=align", "modality=image", "seed=0,1"]
    with pytest.raises(ModalignError, match=r"needs the package hydra-submitit-launcher: pip install"):
        sweep(TrainArguments.parse(words))
