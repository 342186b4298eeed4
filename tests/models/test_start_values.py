"""Start values: what is copied, from where, with how much noise, and that nothing is silently not copied."""

from __future__ import annotations

import pytest
import torch

from modalign.errors import ModalignError
from modalign.models.parts import state_by_part
from modalign.models.start_values import ExpertsFromParent, ModalityFromModality, PatchFromEncoder, start_from_parent


def flat_state(model, *names):
    return {n: t.clone() for tensors in state_by_part(model, names).values() for n, t in tensors.items()}


@pytest.fixture
def parent(make_model):
    torch.manual_seed(1)
    return make_model(["image"], num_experts=1)


@pytest.fixture
def parent_state(parent):
    return flat_state(parent, "projectors.upm.experts.0", "projectors.upm.ports.image", "tokenizers.visual")


def test_a_phase_starts_from_its_parents_tensors(make_model, parent_state):
    model = make_model(["image"], num_experts=1)
    copied = start_from_parent(model, parent_state)
    assert {(c.rule, c.target) for c in copied} == {
        ("parent", "projectors.upm.experts.0"),
        ("parent", "projectors.upm.ports.image"),
        ("parent", "tokenizers.visual"),
    }
    assert sum(c.tensors for c in copied) == len(parent_state)
    assert all(torch.equal(model.state_dict()[n], t) for n, t in parent_state.items())


def test_what_the_parent_has_and_the_model_has_not_is_reported(make_model):
    model = make_model(["image"], num_experts=1)
    copied = start_from_parent(
        model, flat_state(make_model(["image"]), "projectors.upm.experts.0", "projectors.upm.experts.2")
    )
    assert [(c.rule, c.source) for c in copied] == [
        ("parent", "projectors.upm.experts.0"),
        ("left_out", "projectors.upm.experts.2"),
    ]


def test_the_one_expert_is_copied_to_all(make_model, parent_state):
    model = make_model(["image"])
    copied = start_from_parent(model, parent_state, [ExpertsFromParent("upm")])
    assert [(c.target, c.source) for c in copied if c.rule == "experts_from_parent"] == [
        (f"projectors.upm.experts.{k}", "projectors.upm.experts.0") for k in (1, 2)
    ]
    assert model.projectors["upm"].expert_distance().abs().max() == 0


def test_noise_is_relative_seeded_and_breaks_the_symmetry_alike(make_model, parent_state):
    models = [make_model(["image"]) for _ in range(3)]
    for model, seed in zip(models, (5, 5, 6), strict=True):
        start_from_parent(model, parent_state, [ExpertsFromParent("upm", noise=0.05, seed=seed)])
    distance = models[0].projectors["upm"].expert_distance()
    assert ((distance[~torch.eye(3, dtype=torch.bool)] - 0.05 * 2**0.5).abs() < 0.05).all()
    experts = [torch.nn.utils.parameters_to_vector(m.projectors["upm"].experts.parameters()) for m in models]
    assert torch.equal(experts[0], experts[1])
    assert not torch.equal(experts[0], experts[2])


def test_a_new_modality_starts_from_another_ones_port_and_router(make_model, parent_state):
    model = make_model(["image", "cloud"])
    rules = [ExpertsFromParent("upm"), ModalityFromModality("cloud", "image")]
    copied = start_from_parent(model, parent_state, rules)
    assert {c.target for c in copied if c.rule == "modality_from_modality"} == {
        "projectors.upm.ports.cloud",
        "projectors.upm.router.cloud",
    }
    upm = model.projectors["upm"]
    for kind in (upm.ports, upm.router):
        pairs = zip(kind["cloud"].state_dict().values(), kind["image"].state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    assert torch.equal(upm.ports["cloud"].queries, parent_state["projectors.upm.ports.image.queries"])


def test_the_visual_tokenizer_starts_from_the_encoders(make_model):
    model = make_model(["image"])
    (copied,) = start_from_parent(model, {}, [PatchFromEncoder("visual", "clip")])
    assert (copied.target, copied.tensors) == ("tokenizers.visual.conv.weight", 1)
    assert torch.equal(model.tokenizers["visual"].conv.weight, model.encoders["clip"].patch_weight)


def test_a_copy_can_be_trained_without_its_source_changing(make_model):
    model = make_model(["image"])
    start_from_parent(model, {}, [PatchFromEncoder("visual", "clip")])
    with torch.no_grad():
        model.tokenizers["visual"].conv.weight.add_(1.0)
    assert not torch.equal(model.tokenizers["visual"].conv.weight, model.encoders["clip"].patch_weight)


@pytest.mark.parametrize(
    "rule",
    [ExpertsFromParent("upm"), ModalityFromModality("cloud", "sound"), ModalityFromModality("sound", "image")],
)
def test_a_rule_that_copies_nothing_is_an_error(make_model, rule):
    with pytest.raises(ModalignError, match="copied nothing"):
        start_from_parent(make_model(["image", "cloud"]), {}, [rule])


def test_a_rule_for_what_is_not_there_is_an_error(make_model, make_tower):
    with pytest.raises(ModalignError, match="copied nothing"):
        start_from_parent(make_model(["image"]), {}, [ExpertsFromParent("ump")])
    with pytest.raises(ModalignError, match=r"the model has no tokenizers.pixels.conv.weight"):
        start_from_parent(make_model(["image"]), {}, [PatchFromEncoder("pixels", "clip")])
    wide = make_model(["image"], encoders={"clip": make_tower(image_size=8, patch_size=4)})
    with pytest.raises(ModalignError, match=r"has shape \(16, 3, 4, 4\), but the model's is \(16, 3, 8, 8\)"):
        start_from_parent(wide, {}, [PatchFromEncoder("visual", "clip")])


def test_a_parent_that_fits_nothing_or_not_in_shape_is_an_error(make_model):
    with pytest.raises(ModalignError, match="nothing of the parent fits"):
        start_from_parent(make_model(["image"]), {"other.weight": torch.ones(1)})
    with pytest.raises(ModalignError, match="has shape"):
        start_from_parent(make_model(["image"]), {"tokenizers.visual.conv.weight": torch.ones(1)})
