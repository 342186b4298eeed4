"""When a run is saved: at optimizer-step boundaries, where it is due, at the end, and where it is told to stop."""

from types import SimpleNamespace

import pytest

from modalign.callbacks.checkpoints import StepCheckpoints
from modalign.errors import ModalignError


class Writer:
    fails_at = None

    def __init__(self):
        self.checked = self.waited = 0

    def check(self):
        self.checked += 1
        if self.checked == self.fails_at:
            raise ModalignError("disk full")

    def wait(self):
        self.waited += 1


class Flag:
    raised = None
    taken_back = 0

    def take_back(self):
        self.taken_back += 1

    def agreed(self, maximum):
        return self.raised


@pytest.fixture
def run(tmp_path):
    """Plays slices of a training of `total` optimizer steps and keeps what was saved."""

    def play(total=6, every=2, accumulate=1, raise_at=None, begin=0, keep=0, fails_at=None):
        flag, writer = Flag(), Writer()
        writer.fails_at = fails_at
        saved = []
        trainer = SimpleNamespace(
            global_step=begin, accumulate_grad_batches=accumulate, should_stop=False,
            save_checkpoint=lambda path: saved.append(path.name),
        )  # fmt: skip
        callback = StepCheckpoints(tmp_path, every, flag, writer, keep_every=keep)
        module = SimpleNamespace(total_steps=total)
        callback.on_train_start(trainer, module)
        batch = begin * accumulate
        while trainer.global_step < total and not trainer.should_stop:
            trainer.global_step += (batch + 1) % accumulate == 0
            if raise_at == batch:
                flag.raised = "SIGUSR1"
            callback.on_train_batch_end(trainer, module, None, None, batch)
            batch += 1
        callback.on_train_end(trainer, module)
        return saved, callback, trainer, writer, flag

    return play


def test_it_saves_every_so_many_steps_and_at_the_last(run):
    saved, callback, *_ = run(total=5, every=2)
    assert saved == ["step-2", "step-4", "step-5"]
    assert callback.interrupted is None


def test_within_an_accumulation_nothing_is_saved(run):
    saved, *_ = run(total=4, every=1, accumulate=3)
    assert saved == ["step-1", "step-2", "step-3", "step-4"]


def test_a_signal_is_obeyed_at_the_end_of_the_optimizer_step(run):
    saved, callback, trainer, *_ = run(total=9, every=100, accumulate=3, raise_at=4)
    assert saved == ["step-2"]
    assert callback.interrupted == "SIGUSR1"
    assert trainer.should_stop


def test_a_signal_in_the_last_step_lets_the_run_end(run):
    saved, callback, trainer, *_ = run(total=3, every=100, raise_at=2)
    assert saved == ["step-3"]
    assert callback.interrupted is None
    assert not trainer.should_stop


def test_the_step_that_was_resumed_from_is_not_saved_again(run):
    saved, *_ = run(total=5, every=2, begin=2)
    assert saved == ["step-4", "step-5"]


def test_each_save_and_the_end_wait_for_what_is_still_being_written(run):
    saved, _, _, writer, _ = run(total=4, every=2)
    assert writer.waited == len(saved) + 1


def test_a_write_that_has_failed_ends_the_training_at_the_next_optimizer_step(run):
    with pytest.raises(ModalignError, match="disk full"):
        run(total=6, every=2, accumulate=2, fails_at=3)
    *_, writer, _ = run(total=6, every=2, accumulate=2, fails_at=7)
    assert writer.checked == 6


def test_signals_are_taken_back_from_the_trainer(run):
    *_, flag = run()
    assert flag.taken_back == 1


def test_steps_that_are_to_be_kept_are_saved_too(run):
    saved, *_ = run(total=8, every=5, keep=3)
    assert saved == ["step-3", "step-5", "step-6", "step-8"]
