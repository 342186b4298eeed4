"""What every stage promises: what is frozen stays, what trains moves, a gradient is a mean over supervised tokens."""

import copy

import lightning.pytorch as pl
import pytest
import torch

from modalign.models.parts import part_of


class Gradients(pl.Callback):
    """Keeps the gradients of each optimizer step as the optimizer gets them, and what was in eval mode."""

    def __init__(self):
        self.steps = []
        self.evals = set()

    def setup(self, trainer, pl_module, stage):
        record = pl_module.proof.record

        def keep():
            named = pl_module.model.named_parameters()
            self.steps.append({n: p.grad.detach().clone() for n, p in named if p.grad is not None})
            self.evals |= {n for n, m in pl_module.model.named_modules() if not m.training}
            record()

        pl_module.proof.record = keep


def gradients_of(phase):
    seen = Gradients()
    phase.fit(seen)
    return seen.steps


def moved_parts(before, after):
    return {part_of(name) for name in before if not torch.equal(before[name], after[name])}


@pytest.fixture(scope="module", params=["align", "instruct"])
def fitted(request, backbones, image, audio):
    """A phase of four steps with what it began from, and what was seen of it."""
    stage = request.param
    more = {"align": ("modality=audio", "stages.align.steps=2"), "instruct": ("modality=[image,audio]",)}
    phase = backbones.phase(f"stage={stage}", *more[stage], parent={"align": image, "instruct": audio}[stage])
    before = copy.deepcopy(phase.model.state_dict())
    seen = Gradients()
    phase.fit(seen)
    return stage, phase, before, seen


def test_frozen_parts_never_change_and_every_part_that_trains_does(fitted):
    stage, phase, before, _ = fitted
    assert moved_parts(before, phase.model.state_dict()) == set(phase.plan.trains)
    assert ("llm" in phase.plan.trains) == (stage == "instruct")
    assert "encoders.clip" in phase.plan.frozen


def test_frozen_parts_have_no_gradient_and_are_in_eval_mode_while_others_train(fitted):
    _, phase, _, seen = fitted
    with_gradient = {part_of(name) for step in seen.steps for name in step}
    assert with_gradient == set(phase.plan.trains)
    for part in phase.plan.frozen:
        if any(name == part for name, _ in phase.model.named_modules()):
            assert part in seen.evals
    assert not set(phase.plan.trains) & seen.evals


def test_only_what_trains_enters_the_optimizer_and_a_checkpoint(fitted):
    _, phase, _, _ = fitted
    assert {part_of(name) for name in phase.module.state_dict()} == set(phase.plan.trains)
    groups = phase.module.configure_optimizers()["optimizer"].param_groups
    assert {group["part"] for group in groups} == set(phase.plan.trains)
    held = {id(p) for group in groups for p in group["params"]}
    assert held == {id(p) for p in phase.model.parameters() if p.requires_grad}


def test_two_slices_of_four_give_the_gradient_of_one_slice_of_eight(backbones, image):
    """Both see the same eight captions of different lengths, so that a mean of two means would be another gradient."""
    align = ("stage=align", "modality=image", "stages.align.steps=1")
    whole = backbones.phase(*align, "stages.align.slice_size=8")
    split = backbones.phase(*align, "stages.align.slice_size=4", "stages.align.slices_per_step=2")
    (together,), first_and_second = whole.slices(1), split.slices(2)
    assert together.keys == tuple(key for batch in first_and_second for key in batch.keys)

    by_hand, means = [], []
    for batch in (together, *first_and_second):
        split.model.zero_grad()
        output = split.model.loss(batch)
        (output.loss_sum / output.weight_sum).backward()
        by_hand.append({n: p.grad.clone() for n, p in split.model.named_parameters() if p.grad is not None})
    split.model.zero_grad(set_to_none=True)
    (one,), (two,) = gradients_of(whole), gradients_of(split)
    assert one.keys() == two.keys() == by_hand[0].keys()
    for name, gradient in one.items():
        scale = gradient.abs().max().clamp_min(1e-8)
        assert float((gradient - two[name]).abs().max() / scale) < 1e-5, name
        assert float((gradient - by_hand[0][name]).abs().max() / scale) < 1e-5, name
        mean_of_means = (by_hand[1][name] + by_hand[2][name]) / 2
        means.append(float((gradient - mean_of_means).abs().max() / scale))
    assert max(means) > 1e-3


def test_the_logged_loss_is_the_mean_over_supervised_tokens_whatever_the_slices(backbones, image):
    losses = []
    for size, count in ((8, 1), (4, 2)):
        phase = backbones.phase(
            "stage=align", "modality=image", "stages.align.steps=1", f"stages.align.slice_size={size}",
            f"stages.align.slices_per_step={count}",
        )  # fmt: skip
        phase.fit()
        losses.append(phase.module.meter.read({}))
    assert losses[0]["tokens"] == losses[1]["tokens"]
    assert losses[0]["loss"] == pytest.approx(losses[1]["loss"], rel=1e-6)
    assert losses[0]["samples"] == losses[1]["samples"] == 8


def test_a_slice_of_which_every_sample_is_bad_is_counted_and_changes_nothing(backbones, image):
    phase = backbones.phase("stage=align", "modality=image", "stages.align.steps=1")
    before = copy.deepcopy(phase.model.state_dict())
    holes = [("world_image", f"k{i}", "torn") for i in range(8)]
    empty = phase.data.collator([], "world_image", holes)
    phase.module.holes.max_share = 1.0
    phase.data.train_dataloader = lambda: torch.utils.data.DataLoader([empty], batch_size=None)
    phase.fit()
    after = phase.model.state_dict()
    assert phase.module.holes.to_dict()["world_image"]["count"] == 8
    for name, tensor in after.items():
        assert bool(torch.isfinite(tensor).all()), name
        # AdamW still decays weights; a zero gradient moves nothing else.
        assert torch.allclose(before[name], tensor, rtol=1e-4, atol=1e-7), name


def test_a_checkpoint_brings_back_weights_measures_proof_and_random_states(backbones, image):
    phase = backbones.phase("stage=align", "modality=image", "stages.align.steps=2")
    phase.fit(steps=2)
    checkpoint = {}
    phase.module.on_save_checkpoint(checkpoint)
    weights = {name: tensor.clone() for name, tensor in phase.module.state_dict().items()}
    drawn = torch.rand(3)

    other = backbones.phase("stage=align", "modality=image", "stages.align.steps=2")
    other.module.load_state_dict(weights)
    other.module.on_load_checkpoint(checkpoint)
    assert torch.equal(torch.rand(3), drawn)
    assert other.module.proof.result() == phase.module.proof.result()
    assert other.module.meter.read({}) == phase.module.meter.read({})
    for name, tensor in other.module.state_dict().items():
        assert torch.equal(tensor, weights[name])


def test_a_checkpoint_that_lacks_a_tensor_is_refused_by_name(backbones, image):
    from modalign.errors import ModalignError

    phase = backbones.phase("stage=align", "modality=image")
    state = phase.module.state_dict()
    lost = next(name for name in state if name.startswith("projectors.upm.ports.image"))
    del state[lost]
    with pytest.raises(ModalignError, match=lost.replace(".", r"\.")):
        phase.module.load_state_dict(state)
