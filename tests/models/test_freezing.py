"""What is frozen stays so, to the bit and in eval mode; what trains is proved to have had a gradient."""

from __future__ import annotations

import pytest
import torch

from modalign.errors import ModalignError
from modalign.models.freezing import GradientProof, frozen_digest, keep_in_float32, plan_freeze

ALIGN = ["tokenizers", "positions", "projectors.upm"]


@pytest.fixture
def batch(make_batch, make_media):
    return make_batch([[("<bos>", 0), "image", ("a red cube", 1)]], make_media("image"))


def step(model, batch, proof=None):
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model.loss(batch).loss_sum.backward()
    if proof is not None:
        proof.record()
    optimizer.step()


def test_only_the_selected_parts_require_gradients(make_model):
    model = make_model()
    plan = plan_freeze(model, ALIGN)
    plan.apply(model)
    assert set(plan.frozen) == {"encoders.clip", "llm"}
    trains = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trains == {n for n, _ in model.named_parameters() if n.startswith(("tokenizers", "positions", "projectors"))}


def test_frozen_parts_stay_in_eval_mode(make_model):
    model = make_model()
    plan_freeze(model, ALIGN).apply(model)
    model.train()
    assert not any(m.training for m in [*model.llm.modules(), *model.encoders["clip"].modules()])
    assert all(m.training for m in model.projectors["upm"].modules())
    plan_freeze(model, ["llm"]).apply(model)
    assert all(m.training for m in model.llm.modules())
    assert not any(m.training for expert in model.projectors["upm"].experts for m in expert.modules())
    assert not any(m.training for m in model.eval().modules())


def test_a_frozen_encoder_never_changes_and_what_trains_does(make_model, batch):
    model = make_model(["image"])
    plan = plan_freeze(model, ALIGN)
    plan.apply(model)
    frozen, trained = frozen_digest(model, plan.frozen), frozen_digest(model, plan.trains)
    step(model, batch)
    assert frozen_digest(model, plan.frozen) == frozen
    after = frozen_digest(model, plan.trains)
    assert all(after[part] != trained[part] for part in plan.trains)


def test_what_trains_has_master_weights_in_float32_and_what_is_frozen_stays_small(make_model, batch):
    model = make_model(["image"])
    before = model.llm.embedding_rows.detach().bfloat16()
    model.llm.bfloat16()
    plan_freeze(model, ALIGN).apply(model)
    assert keep_in_float32(model) == []
    assert {parameter.dtype for parameter in model.llm.parameters()} == {torch.bfloat16}
    plan_freeze(model, ["llm"]).apply(model)
    assert {name.split(".")[0] for name in keep_in_float32(model)} == {"llm"}
    assert torch.equal(model.llm.embedding_rows.detach(), before.float())
    model.loss(batch).loss_sum.backward()
    assert {p.grad.dtype for p in model.llm.parameters() if p.grad is not None} == {torch.float32}


def test_one_bit_in_a_buffer_changes_the_digest(make_model):
    model = make_model()
    before = frozen_digest(model, ["encoders.clip"])
    model.encoders["clip"].patch_weight.view(-1).view(torch.int32)[0] ^= 1
    assert frozen_digest(model, ["encoders.clip"]) != before


def test_an_additive_phase_leaves_every_other_part_unchanged(make_model, batch, make_batch, make_media):
    model = make_model()
    plan = plan_freeze(model, model.own_parts("cloud"))
    plan.apply(model)
    with torch.no_grad():
        before = model.llm.logits(model.hidden(model.compose(batch)))
    step(model, make_batch([[("<bos>", 0), "cloud", ("a ball", 1)]], make_media("cloud")))
    with torch.no_grad():
        assert torch.equal(before, model.llm.logits(model.hidden(model.compose(batch))))


def test_the_proof_tells_ok_zero_none_and_nonfinite_apart(make_model, batch):
    model = make_model(["image"])
    plan_freeze(model, ["projectors", "llm", "tokenizers"]).apply(model)
    proof = GradientProof(model, ["projectors.upm.ports.image", "llm", "tokenizers.visual", "projectors.upm.experts.0"])
    assert set(proof.result().values()) == {"none"}
    model.loss(batch).loss_sum.backward()
    for parameter in model.projectors["upm"].experts[0].parameters():
        parameter.grad.zero_()
    next(model.llm.parameters()).grad[0, 0] = float("nan")
    model.tokenizers["visual"].conv.weight.grad = None
    proof.record()
    assert list(proof.result().values()) == ["ok", "nonfinite", "none", "zero"]


def test_one_step_with_a_gradient_is_enough_for_the_proof(make_model, batch):
    model = make_model(["image"])
    proof = GradientProof(model, ["tokenizers.visual"])
    step(model, batch, proof)
    model.zero_grad(set_to_none=False)
    proof.record()
    assert proof.result() == {"tokenizers.visual": "ok"}


def test_the_proof_follows_parts_whose_gradients_come_and_go(make_model, batch):
    model = make_model(["image"])
    names = ["tokenizers.visual", "projectors.upm.experts.0", "llm"]
    proof = GradientProof(model, names)
    step(model, batch, proof)
    lengths = {n: [float(p.grad.norm()) for p in group if p.grad is not None] for n, group in proof.groups.items()}
    assert set(proof.latest) == set(names)
    for name, norms in proof.latest.items():
        assert norms.tolist() == pytest.approx(lengths[name])
    for parameter in proof.groups["llm"]:
        parameter.grad = None
    proof.groups["tokenizers.visual"][0].grad.fill_(float("inf"))
    proof.record()
    assert set(proof.latest) == set(names[:2])
    assert bool(proof.broken)
    assert set(proof.result().values()) == {"ok"}  # what came before counts
    model.zero_grad(set_to_none=True)
    proof.record()
    assert proof.latest == {}
    assert not bool(proof.broken)


def test_a_proof_can_be_kept_and_taken_up(make_model, batch):
    model = make_model(["image"])
    proof, later = (GradientProof(model, ["tokenizers.visual"]) for _ in range(2))
    step(model, batch, proof)
    later.load(proof.state())
    assert later.result() == {"tokenizers.visual": "ok"}


def test_a_selector_without_parameters_is_no_error_but_nothing_to_train_is(make_model):
    model = make_model(["image"])
    assert plan_freeze(model, ["positions", "llm"]).trains == ("llm",)
    with pytest.raises(ModalignError, match="nothing would train"):
        plan_freeze(model, ["positions"])
    with pytest.raises(ModalignError, match=r"did you mean 'projectors.upm'"):
        plan_freeze(model, ["projectors.ump"])
