"""Validation loss by modality: on time, over supervised tokens, and without a trace in what trains."""

from types import SimpleNamespace

import pytest
import torch

from modalign.callbacks.validation import ModalityValidation
from modalign.stages.objective import TermOutput
from modalign.types import Batch


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.dropout = torch.nn.Dropout(0.5)
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.seen = []


class Tokens:
    """A loss of the batch's ids, with their number as the count."""

    name, weight = "tokens", 1.0

    def __call__(self, model, batch):
        model.seen.append((model.training, torch.is_grad_enabled()))
        return TermOutput(batch.text_ids.sum() * model.weight.sum(), torch.tensor(float(len(batch.text_ids))))


def batch(*ids):
    return Batch({}, ((),), torch.tensor(ids, dtype=torch.float32), torch.ones(len(ids)), ("a",))


def module():
    return SimpleNamespace(
        model=Model().train(), objective=(Tokens(),), latest={}, total_steps=5, device=torch.device("cpu")
    )


def play(batches, every=2, total=5, first=0, slices=1):
    written = []
    callback = ModalityValidation(batches, every, lambda values, step: written.append((step, values)))
    own, trainer = module(), SimpleNamespace(global_step=first)
    callback.on_train_start(trainer, own)
    for number in range(first * slices + 1, total * slices + 1):
        trainer.global_step = number // slices
        callback.on_train_batch_end(trainer, own, None, None, number)
    return written, own


def test_each_modality_is_measured_where_it_is_due_and_at_the_end():
    written, own = play({"image": [batch(1.0, 3.0)], "audio": [batch(6.0)]})
    assert [step for step, _ in written] == [2, 4, 5]
    assert written[0][1] == {"val/loss/image": 2.0, "val/loss/audio": 6.0}
    assert own.latest["val/loss/audio"] == 6.0


@pytest.mark.parametrize(("first", "steps"), [(0, [2, 4, 5]), (2, [4, 5]), (3, [4, 5])])
def test_slices_of_a_step_begun_or_resumed_are_not_measured_before_it_is_done(first, steps):
    written, _ = play({"image": [batch(1.0)]}, first=first, slices=3)
    assert [step for step, _ in written] == steps


def test_the_loss_is_a_mean_over_tokens_and_not_over_batches():
    written, _ = play({"image": [batch(1.0), batch(4.0, 4.0, 4.0)]})
    assert written[0][1]["val/loss/image"] == pytest.approx(13 / 4)


def test_it_looks_in_eval_mode_without_gradients_and_leaves_the_model_training():
    _, own = play({"image": [batch(1.0)]})
    assert set(own.model.seen) == {(False, False)}
    assert own.model.training
    assert own.model.weight.grad is None


def test_no_random_number_is_drawn():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    play({"image": [batch(1.0)]})
    assert torch.equal(torch.rand(1), expected)


def test_a_modality_without_a_supervised_token_has_no_loss_to_divide_by_zero():
    written, _ = play({"image": [batch()]})
    assert written[0][1]["val/loss/image"] == 0.0
