"""The meter's counts on models small enough to reckon by hand."""

import pytest
import torch
from torch import nn

from modalign.models.tokenizers.points import PointTokenizer
from modalign.stages.forecast.meter import BACKWARD, FORWARD, GRADIENTS, Meter
from modalign.stages.forecast.repeats import repeated_layers, repeats_once
from modalign.stages.forecast.shadow import as_shapes
from modalign.stages.forecast.shapes import empty
from modalign.stages.forecast.slice_cost import sampling_once

WIDTH, ROWS = 16, 10
PRODUCT = 2 * ROWS * WIDTH * WIDTH  # FLOPs of one linear map of all rows


class Layer(nn.Module):
    """Two maps with something nonlinear between them, and what came is added."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x, scale=None):
        return x + self.down(torch.relu(self.up(x)))


class Chain(nn.Module):
    """A map in front, equal layers, a map behind: parts `tokenizers.a`, `llm` and `fusion`."""

    def __init__(self, num_layers=4) -> None:
        super().__init__()
        self.tokenizers = nn.ModuleDict({"a": nn.Linear(WIDTH, WIDTH)})
        self.llm = nn.ModuleList(Layer() for _ in range(num_layers))
        self.fusion = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        x = self.tokenizers["a"](x)
        for layer in self.llm:
            x = layer(x, scale=1.0)
        return self.fusion(x).sum()


def measured(model, once=False, recompute=False, x=None):
    model.zero_grad()
    meter = Meter()
    x = torch.zeros(ROWS, WIDTH) if x is None else x
    with meter, meter.watch(model):
        if once:
            with repeats_once(repeated_layers(model), meter, {}, recompute):
                meter.backward(model(x))
        else:
            meter.backward(model(x))
    return meter.tape


def test_a_part_that_trains_costs_two_products_backward_and_its_gradient_stays():
    model = Chain(0)
    tape = measured(model)
    assert tape.flops["tokenizers.a", FORWARD] == tape.flops["fusion", FORWARD] == PRODUCT
    assert tape.flops["fusion", BACKWARD] == 2 * PRODUCT
    # Nothing wants the gradient of the input of the first map.
    assert tape.flops["tokenizers.a", BACKWARD] == PRODUCT
    gradients = sum(p.nbytes for p in model.parameters())
    assert tape.live[GRADIENTS] == gradients
    assert tape.total == gradients


def test_a_frozen_part_behind_what_trains_costs_the_gradient_through_it_alone():
    model = Chain(0)
    model.fusion.requires_grad_(False)
    tape = measured(model)
    assert tape.flops["fusion", BACKWARD] == PRODUCT
    assert tape.live[GRADIENTS] == sum(p.nbytes for p in model.tokenizers.parameters())


def test_a_frozen_part_in_front_of_what_trains_costs_nothing_backward_and_keeps_nothing():
    frozen, training = Chain(3), Chain(3)
    frozen.tokenizers.requires_grad_(False)
    frozen.llm.requires_grad_(False)
    one, other = measured(frozen), measured(training)
    assert one.flops["llm", FORWARD] == other.flops["llm", FORWARD] == 3 * 4 * PRODUCT
    assert one.flops["llm", BACKWARD] == 0
    assert one.activations_peak < other.activations_peak / 2


@pytest.mark.parametrize("frozen", [(), ("llm",), ("tokenizers", "llm")])
def test_one_layer_stands_for_all_without_changing_a_number(frozen):
    model = Chain()
    for name in frozen:
        getattr(model, name).requires_grad_(False)
    whole, once = measured(model), measured(model, once=True)
    assert once.flops == whole.flops
    assert once.peak == whole.peak
    assert once.activations_peak == pytest.approx(whole.activations_peak, rel=0.03)
    assert once.at_peak.keys() == whole.at_peak.keys()


def test_checkpointing_keeps_less_and_computes_the_layers_again():
    model = Chain(8)
    kept, again = measured(model, once=True), measured(model, once=True, recompute=True)
    assert again.activations_peak < kept.activations_peak
    assert again.flops["llm", "recompute"] == kept.flops["llm", FORWARD]
    assert again.flops["llm", BACKWARD] == kept.flops["llm", BACKWARD]


def test_one_round_of_sampling_points_stands_for_all():
    tokenizer = PointTokenizer(8, 64, 32, 4)
    as_shapes(tokenizer)
    clouds = empty((2, 64, 6), torch.float32)
    whole = measured_tokens(tokenizer, clouds)
    with sampling_once():
        once = measured_tokens(tokenizer, clouds)
    assert once.flops == whole.flops
    assert whole.flops.total() > 0
    assert once.peak == pytest.approx(whole.peak, rel=0.01)


def measured_tokens(tokenizer, clouds):
    meter = Meter()
    with meter, meter.watch(tokenizer):
        meter.backward(tokenizer(clouds).sum())
    tokenizer.zero_grad()
    return meter.tape


def test_tensors_without_content_cost_what_real_ones_cost():
    model = Chain()
    real = measured(model)
    as_shapes(model)
    bare = measured(model, x=empty((ROWS, WIDTH), torch.float32))
    assert bare.flops == real.flops
    assert bare.activations_peak == real.activations_peak


def test_layers_that_differ_are_not_taken_for_each_other():
    model = nn.ModuleDict({"llm": nn.ModuleList([Layer(), Layer(), nn.Sequential(nn.Linear(4, 4), nn.ReLU())])})
    assert [layer.name for layer in repeated_layers(model)] == ["llm.0", "llm.1"]
    model["llm"][1].requires_grad_(False)
    assert repeated_layers(model) == []


def test_the_model_is_as_before_when_the_counting_is_over():
    model = Chain()
    before = [dict(vars(layer)) for layer in model.llm]
    measured(model, once=True)
    assert [set(vars(layer)) for layer in model.llm] == [set(values) for values in before]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
