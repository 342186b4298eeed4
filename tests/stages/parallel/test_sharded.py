"""What is sharded and how, and that processes stay in step whatever modalities and lengths come."""

import pytest
import torch
from torch import nn

from modalign.errors import ModalignError
from modalign.stages.parallel.sharded import shard


def test_quantized_weights_and_scalars_that_train_are_refused_by_name():
    quantized = nn.Module()
    quantized.weight = nn.Parameter(torch.zeros(4, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(ModalignError, match=r"cannot shard weight, whose numbers are quantized \(torch\.uint8\)"):
        shard(quantized, None)
    scalar = nn.Module()
    scalar.gate = nn.Parameter(torch.zeros(()))
    with pytest.raises(ModalignError, match="cannot shard gate, a single number that trains"):
        shard(scalar, None)


def test_a_model_is_cut_by_block_and_expert_and_comes_back_whole(world, own_shop):
    shop = own_shop()
    first, second = world(2, "cut_and_join", runs=shop.runs, data=shop.data)
    assert first["equal"]
    assert not second["kept"]
    assert first["units"] == second["units"]
    assert {"llm.model.model.layers.0", "encoders.clip.transformer.resblocks.0", "projectors.upm.experts.2", ""} <= set(
        first["units"]
    )
    assert first["held"] + second["held"] >= first["parameters"]
    assert max(first["held"], second["held"]) < 0.6 * first["parameters"]


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["align", "instruct"])
def test_five_hundred_random_draws_of_modality_and_length_do_not_hang(stage, world, own_shop):
    shop = own_shop()
    results = world(2, "draw", runs=shop.runs, data=shop.data, stage=stage, draws=500)
    assert [result["draws"] for result in results] == [500, 500]
    assert results[0]["seen"] == results[1]["seen"]
    assert len(set(results[0]["seen"])) >= 5
    assert results[0]["lengths"] != results[1]["lengths"]
