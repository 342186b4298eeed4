"""A run that is killed and started again with the same command ends as the unbroken one."""

import importlib.util
import random
import sys
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location("sigkill", Path(__file__).with_name("sigkill.py"))
assert spec is not None
assert spec.loader is not None
sigkill = importlib.util.module_from_spec(spec)

sys.modules["sigkill"] = sigkill
spec.loader.exec_module(sigkill)


@pytest.fixture(scope="module")
def parents(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume")
    return sigkill.make_parents(folder, folder / "data"), folder / "data"


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [
        sigkill.Case("align", 1, 0),
        sigkill.Case("align", 2, 2),
        sigkill.Case("instruct", 2, 0),
        sigkill.Case("instruct", 1, 2, cache="on"),
    ],
    ids=lambda case: f"{case.stage}-accumulate{case.slices_per_step}-workers{case.workers}-cache-{case.cache}",
)
def test_a_killed_run_ends_bit_identical_to_the_unbroken_one(case, parents):
    runs, data = parents
    struck, equal = sigkill.compare(case, runs, data, kills=1, rng=random.Random(1))
    assert struck == 1
    assert equal
