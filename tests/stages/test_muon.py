"""Muon: orthogonal steps for hidden linear maps, AdamW's for everything else, in one optimizer."""

import copy

import pytest
import torch
from torch import nn

from modalign.config.schema import MuonSettings, OptimizerSettings
from modalign.errors import ModalignError
from modalign.stages import muon
from modalign.stages.muon import NARROWEST, Muon, hidden_matrices, orthogonal
from modalign.stages.optimizer import make_optimizer, make_schedule, skip_step

MUON = MuonSettings(parts=("projectors",), learning_rate=0.02)


def settings(**changes):
    return OptimizerSettings(**{"learning_rate": 0.1, "weight_decay": 0.5, "muon": MUON, **changes})


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def given(*shape, seed=0):
    parameter = nn.Parameter(random(*shape, seed=seed))
    parameter.grad = random(*shape, seed=seed + 100)
    return parameter


@pytest.mark.parametrize(("rows", "columns"), [(24, 24), (48, 16), (16, 64)])
def test_a_step_moves_every_direction_about_equally_far_and_turns_none(rows, columns):
    left, right = (torch.linalg.qr(random(n, min(rows, columns), seed=n))[0] for n in (rows, columns))
    lengths = torch.linspace(0.05, 1.0, min(rows, columns))
    found = orthogonal((left * lengths @ right.T)[None])[0]
    turned = left.T @ found @ right  # diagonal: the directions are those that went in
    assert float((turned - turned.diagonal().diag()).abs().max()) < 1e-4
    assert 0.6 < float(turned.diagonal().min()) < float(turned.diagonal().max()) < 1.3
    assert float(found.norm()) == pytest.approx(float(turned.norm()), rel=1e-4)


def test_small_singular_values_are_brought_up_and_none_runs_away():
    left, right = (torch.linalg.qr(random(64, 64, seed=n))[0] for n in (1, 2))
    lengths = torch.logspace(-2.4, 0, 64)
    lengths /= lengths.norm()  # the smallest is 0.0015 of the whole
    turned = left.T @ orthogonal((left * lengths @ right.T)[None])[0] @ right
    above = turned.diagonal()[lengths > 0.0031]
    assert 0.77 < float(above.min()) < float(above.max()) < 1.23
    assert float(turned.diagonal().min()) > 0.3


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_matrix_of_one_direction_keeps_its_length_near_one(native, scale, monkeypatch):
    """Its singular value is the whole norm, at the end of the range where the first polynomial rises steeply."""
    monkeypatch.setattr(muon, "multiplies_half_fast", lambda: native)
    matrix = scale * random(128, 1) @ random(1, 256, seed=1)
    assert 0.75 < float(torch.linalg.matrix_norm(orthogonal(matrix[None])[0], ord=2)) < 1.25


@pytest.mark.parametrize("native", [False, True])
def test_wide_matrices_keep_their_directions_in_either_precision(native, monkeypatch):
    monkeypatch.setattr(muon, "multiplies_half_fast", lambda: native)
    wide = random(2, 128, 256)
    left, _, right = torch.linalg.svd(wide, full_matrices=False)
    turned = left.mT @ orthogonal(wide) @ right.mT
    lengths = turned.diagonal(dim1=1, dim2=2)
    assert 0.5 < float(lengths.min()) < float(lengths.max()) < 1.3
    assert float((turned - torch.diag_embed(lengths)).abs().max()) < (0.05 if native else 1e-4)


def test_a_matrix_of_zeros_stays_one_of_zeros():
    assert torch.equal(orthogonal(torch.zeros(1, 4, 4)), torch.zeros(1, 4, 4))


def test_matrices_that_are_stepped_together_move_as_each_would_alone():
    together, alone = ([given(16, 24, seed=s) for s in range(3)] for _ in range(2))
    make_optimizer({"a": together}, {}, settings(), together).step()
    for matrix in alone:
        make_optimizer({"a": [matrix]}, {}, settings(), [matrix]).step()
    for left, right in zip(together, alone, strict=True):
        torch.testing.assert_close(left, right)


def test_equal_shapes_in_two_parts_keep_their_own_rates():
    slow, fast = given(16, 24), given(16, 24)
    start = slow.detach().clone()
    make_optimizer({"a": [slow], "b": [fast]}, {"a": 0.5}, settings(weight_decay=0.0), [slow, fast]).step()
    torch.testing.assert_close(2 * (slow - start), fast - start)


def test_its_first_step_is_the_published_one():
    matrix = given(48, 16)
    start, slope = matrix.detach().clone(), matrix.grad.clone()
    make_optimizer({"a": [matrix]}, {}, settings(), [matrix]).step()
    momentum = 0.05 * slope
    ahead = slope.lerp(momentum, 0.95)
    wanted = start * (1 - 0.02 * 0.5) - 0.02 * 3**0.5 * orthogonal(ahead[None])[0]
    torch.testing.assert_close(matrix.detach(), wanted)


def test_torchs_own_muon_takes_the_same_steps(monkeypatch):
    """torch's is in bfloat16, with the first polynomial that was published in each of five rounds."""
    monkeypatch.setattr(muon, "ROUNDS", ((3.4445, -4.7750, 2.0315),) * 5)
    monkeypatch.setattr(muon, "BELOW_ONE", 1.0)
    ours, theirs = given(24, 24), given(24, 24)
    optimizers = (
        make_optimizer({"a": [ours]}, {}, settings(weight_decay=0.1), [ours]),
        torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, momentum=0.95, nesterov=True),
    )
    for step in range(4):
        slope = random(24, 24, seed=200 + step)
        for matrix, optimizer in zip((ours, theirs), optimizers, strict=True):
            matrix.grad = slope.clone()
            optimizer.step()
    assert float((ours - theirs).norm() / (ours - random(24, 24)).norm()) < 0.02


def test_what_is_no_hidden_map_takes_adamws_steps():
    plain, own = given(8, 5), given(8, 5)
    matrix = given(16, 16, seed=3)
    mixed = make_optimizer({"a": [own, matrix]}, {}, settings(), [matrix])
    adamw = make_optimizer({"a": [plain]}, {}, settings(muon=None))
    assert isinstance(mixed, Muon)
    assert not isinstance(adamw, Muon)
    for _ in range(3):
        mixed.step()
        adamw.step()
    assert torch.equal(own, plain)
    assert set(mixed.state[matrix]) == {"step", "momentum"}
    assert "exp_avg" in mixed.state[own]


def test_rates_follow_the_schedule_and_a_parts_own_scale():
    matrix, bias = given(16, 16), given(16)
    own = settings(warmup_steps=1)
    optimizer = make_optimizer({"a": [matrix, bias]}, {"a": 3.0}, own, [matrix])
    schedule = make_schedule(optimizer, own, 10)
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([0.03, 0.15])
    optimizer.step()
    schedule.step()
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([0.06, 0.3])


def test_a_step_that_is_to_be_skipped_leaves_weights_and_momentum_alone():
    matrix, bias = given(16, 16), given(16)
    optimizer = make_optimizer({"a": [matrix, bias]}, {}, settings(), [matrix])
    for skip in (False, True, False):
        matrix.grad = torch.full((16, 16), float("nan")) if skip else random(16, 16)
        before = [matrix.detach().clone(), bias.detach().clone()]
        momentum = optimizer.state[matrix]["momentum"].clone() if skip else None
        skip_step(optimizer, torch.tensor(skip))
        optimizer.step()
        assert [torch.equal(x, y) for x, y in zip((matrix, bias), before, strict=True)] == [skip, skip]
        assert bool(torch.isfinite(matrix).all())
        assert momentum is None or torch.equal(optimizer.state[matrix]["momentum"], momentum)


@pytest.mark.parametrize("skip", [False, True])
def test_a_flag_that_lies_on_a_device_does_what_the_host_would(skip):
    on_host, on_device = given(16, 24), given(16, 24)
    ours, theirs = (make_optimizer({"a": [m]}, {}, settings(), [m]) for m in (on_host, on_device))
    for number in range(2):  # the second step is the flagged one
        on_host.grad = random(16, 24, seed=number)
        on_device.grad = torch.full((16, 24), float("inf")) if number and skip else on_host.grad.clone()
        if not (number and skip):
            ours.step()
        with torch.no_grad():
            theirs._orthogonal_steps(theirs.param_groups, torch.tensor(bool(number and skip)))
    assert torch.equal(on_host, on_device)
    assert torch.equal(ours.state[on_host]["momentum"], theirs.state[on_device]["momentum"])
    assert float(theirs.state[on_device]["step"]) == 2 - skip


def test_a_flag_that_is_not_set_changes_no_bit():
    one, other = given(16, 16), given(16, 16)
    plain, flagged = (make_optimizer({"a": [m]}, {}, settings(), [m]) for m in (one, other))
    skip_step(flagged, torch.tensor(False))
    plain.step()
    flagged.step()
    assert torch.equal(one, other)


def test_a_loaded_state_goes_on_to_the_bit():
    one, other = given(16, 16), given(16, 16)
    first, second = (make_optimizer({"a": [m]}, {}, settings(), [m]) for m in (one, other))
    first.step()
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    other.data.copy_(one)
    for matrix, optimizer in ((one, first), (other, second)):
        matrix.grad = random(16, 16, seed=9)
        optimizer.step()
    assert torch.equal(one, other)


class Llm(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(32, 32)
        self.lora_A = nn.Linear(32, 16, bias=False)
        self.head = nn.Linear(32, 64, bias=False)

    def get_output_embeddings(self):
        return self.head


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.llm = Llm()
        self.tokenizers = nn.ModuleDict({"audio": nn.Linear(32, 32)})
        self.projectors = nn.ModuleDict({"upm": nn.ModuleDict({"experts": nn.ModuleList([nn.Linear(32, 32)])})})
        self.projectors["upm"]["router"] = nn.ModuleDict({"audio": nn.Linear(32, NARROWEST - 1)})


def test_hidden_maps_are_those_of_the_named_parts_without_heads_adapters_and_what_is_narrow():
    model = Model()
    names = {id(p): name for name, p in model.named_parameters()}
    found = {
        selector: [names[id(matrix)] for matrix in hidden_matrices(model, [selector])]
        for selector in ("llm", "projectors", "tokenizers")
    }
    assert found == {
        "llm": ["llm.inner.weight"],
        "projectors": ["projectors.upm.experts.0.weight"],
        "tokenizers": ["tokenizers.audio.weight"],
    }


def test_a_part_that_is_not_there_is_an_error_that_names_the_nearest():
    with pytest.raises(ModalignError, match="projectors"):
        hidden_matrices(Model(), ["projector"])
