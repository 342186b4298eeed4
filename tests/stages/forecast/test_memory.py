"""What one process holds under each engine."""

import pytest
import torch
from torch import nn

from modalign.config.schema import MuonSettings, OptimizerSettings
from modalign.models.freezing import FreezePlan
from modalign.models.language_model import load_language_model
from modalign.stages.forecast.memory import Engine, exchanged, optimizer_bytes, part_memory, peak_memory
from modalign.stages.forecast.slice_cost import SliceCost

PLAN = FreezePlan(("projectors.upm.ports.a",), ("llm",))
COST = SliceCost(4, {}, 1000, 700, 1200, {"llm": 1200}, {}, (5.0, 4.0))
ADAMW = OptimizerSettings(learning_rate=1e-3)


class Small(nn.Module):
    """A frozen language model of four layers and a part that trains."""

    def __init__(self) -> None:
        super().__init__()
        self.llm = nn.ModuleList(nn.Sequential(nn.Linear(100, 100, bias=False), nn.ReLU()) for _ in range(4))
        ports = nn.ModuleDict({"a": nn.Linear(10, 10, bias=False)})
        self.projectors = nn.ModuleDict({"upm": nn.ModuleDict({"ports": ports})})
        self.llm.requires_grad_(False)


@pytest.fixture
def model():
    return Small()


def test_parts_tell_parameters_weights_gradients_and_state(model):
    state = optimizer_bytes(model, PLAN, ADAMW)
    frozen, training = part_memory(model, PLAN, Engine(), state)
    assert (frozen.name, frozen.parameters, frozen.weights, frozen.gradients, frozen.optimizer) == (
        "llm",
        40000,
        160000,
        0,
        0,
    )
    assert (training.parameters, training.weights, training.gradients) == (100, 400, 400)
    # Two moments of each number, and a count of steps.
    assert training.optimizer == 2 * 400 + 4


def test_orthogonal_steps_keep_one_moment_of_each_number(model):
    wide = nn.Linear(20, 30)
    model.projectors["upm"]["ports"]["a"] = wide
    muon = MuonSettings(parts=("projectors",), learning_rate=0.02)
    state = optimizer_bytes(model, PLAN, ADAMW.model_copy(update={"muon": muon}))
    assert state == {PLAN.trains[0]: (4 * 600 + 4) + (2 * 4 * 30 + 4)}  # the map's, and AdamW's of its bias


def test_gradients_of_the_step_before_live_until_the_loss_is_there(model):
    parts = part_memory(model, PLAN, Engine(), {})
    fixed = 160400
    assert peak_memory(0, parts, COST, Engine()).peak == fixed + 400 + COST.forward_peak
    # Of several slices in a step the later ones find gradients of the earlier ones.
    assert exchanged(model, Engine()) == 0
    assert peak_memory(0, parts, COST, Engine(accumulates=True)).peak == fixed + 400 + COST.activations_peak


def test_data_parallel_replicates_everything_and_adds_buckets_of_gradients(model):
    one, many = Engine(), Engine("ddp", 4)
    assert part_memory(model, PLAN, one, {}) == part_memory(model, PLAN, many, {})
    memory = peak_memory(exchanged(model, many), part_memory(model, PLAN, many, {}), COST, many)
    assert memory.exchange == 400


def test_sharding_divides_weights_gradients_and_state_but_not_activations(model):
    engine = Engine("fsdp2", 4)
    parts = part_memory(model, PLAN, engine, {"projectors.upm.ports.a": 800})
    assert [(p.weights, p.gradients, p.optimizer) for p in parts] == [(40000, 0, 0), (100, 100, 200)]
    memory = peak_memory(exchanged(model, engine), parts, COST, engine)
    # Two of the four layers are whole at a time, and what lies in no layer always is.
    assert memory.exchange == 2 * 40000 + 400
    assert memory.activations == COST.activations_peak
    assert memory.peak == 40100 + 200 + memory.exchange + 100 + COST.activations_peak


def test_tied_weights_count_once():
    model = Small()
    model.llm[1][0].weight = model.llm[0][0].weight
    frozen, _ = part_memory(model, PLAN, Engine(), {})
    assert frozen.weights == 3 * 40000


@pytest.mark.parametrize(("bits", "kept"), [(8, 64 * 64 + 4 * 64), (4, 64 * 64 // 2 + 4 * 64)])
def test_few_bits_are_counted_for_all_linear_maps_but_the_vocabularys(bits, kept):
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1}
    with torch.device("meta"):
        llm = load_language_model({"model_type": "llama", "vocab_size": 50, **sizes}, "bfloat16", lora={"rank": 2})
    model = nn.ModuleDict({"llm": llm})
    model.requires_grad_(False)
    adapters, exact = sorted(part_memory(model, FreezePlan((), ("llm", "llm.lora")), Engine(), {}), key=by_size)
    small = {part.name: part for part in part_memory(model, FreezePlan((), ("llm",)), Engine(), {}, bits)}
    assert exact.weights - small["llm"].weights == 7 * (64 * 64 * 2 - kept)
    assert small["llm"].parameters == exact.parameters
    assert small["llm.lora"].weights == adapters.weights


def by_size(part):
    return part.weights


def test_the_optimizer_of_billions_of_numbers_needs_no_memory_to_be_measured():
    with torch.device("meta"):
        model = nn.ModuleDict({"llm": nn.Linear(100_000, 100_000, bias=False)})
    state = optimizer_bytes(model, FreezePlan(("llm",), ()), ADAMW)
    assert state["llm"] == 2 * 4 * 10**10 + 4
