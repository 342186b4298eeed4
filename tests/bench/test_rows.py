"""Every row of the bench measures something at the tiny size; on a GPU the same code runs in half precision."""

import importlib
import math

import pytest

from modalign.bench.rows import CPU, GPU, ROWS, select
from modalign.bench.sizes import SIZES
from modalign.config.compose import compose_settings
from modalign.errors import ModalignError

# Those that train through whole frameworks take seconds; one of them is quick enough for every run of the suite.
LONG = {"stock_lightning", "hf_trainer"}


def measured(setting, name):
    result = importlib.import_module(f"modalign.bench.{ROWS[name].module}").measure(setting, name)
    assert 0 < result.ratio.low <= result.ratio.value <= result.ratio.high < math.inf
    assert result.ours
    assert result.peer
    assert result.agreement
    return result


@pytest.mark.parametrize("name", [name for name in ROWS if name not in LONG])
def test_a_row_measures_a_ratio_after_its_peers_agreed(setting, name):
    result = measured(setting, name)
    if name in ("align", "instruct_released", "hf_padding"):  # ours computes less
        assert result.flops is not None
        assert result.flops > 1
    assert all(len(seconds) >= 1 and min(seconds) > 0 for seconds in result.seconds.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(LONG))
def test_a_framework_s_loop_arrives_at_the_same_weights(setting, name):
    assert "weights apart by" in measured(setting, name).agreement


@pytest.mark.parametrize("name", ["align", "instruct_released", "floor_instruct", "frozen", "memory", "lightning"])
def test_the_path_of_a_gpu_runs_in_half_precision(like_on_gpu, name):
    assert like_on_gpu.frame is like_on_gpu.half
    assert like_on_gpu.half.half
    measured(like_on_gpu, name)


def test_without_names_all_rows_of_a_kind_of_device_are_measured():
    assert "align" in select([], CPU)
    assert "align" not in select([], GPU)
    assert "floor_instruct" in select([], GPU)
    assert select(["memory", "align"], CPU) == ["align", "memory"]
    assert select(["align"], GPU) == ["align"]
    with pytest.raises(ModalignError, match="did you mean 'align_bf16'"):
        select(["align_bf1"], CPU)


def test_every_size_is_a_model_that_the_settings_allow_and_the_full_one_is_the_papers():
    for size in SIZES.values():
        for scale in (size.step, size.frame):
            compose_settings(list(scale.settings))
    model = compose_settings(list(SIZES["full"].step.settings))[0].model
    assert model.language_model["architecture"]["hidden_size"] == 4096
    assert model.projectors["upm"]["width"] == 1024
