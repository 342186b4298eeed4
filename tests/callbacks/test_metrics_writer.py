"""What is logged while a run trains: losses by modality, rates by part, speed; nothing twice after a resume."""

from types import SimpleNamespace

import pytest

from modalign.callbacks.metrics import MetricsWriter
from modalign.runs.metrics import MetricLog
from modalign.runs.skips import Skips


class Meter:
    def read(self, names):
        return {"loss": 2.0, f"loss/{names['world_image']}": 2.0, "samples": 64.0, "tokens": 640.0}


def parts(step, total=10):
    trainer = SimpleNamespace(global_step=step)
    rates = {"llm": 0.5}
    return trainer, SimpleNamespace(total_steps=total, meter=Meter(), latest={}, skips=Skips(), rates=lambda: rates)


@pytest.fixture
def log(tmp_path):
    return MetricLog(tmp_path / "metrics.csv")


def steps_of(log):
    return sorted({row.step for row in log.read()})


def test_rows_are_written_every_so_many_steps_and_at_the_last(log):
    writer = MetricsWriter(log, 4, {"world_image": "image"})
    trainer, module = parts(0)
    writer.on_train_start(trainer, module)
    for step in range(1, 11):
        trainer.global_step = step
        writer.on_train_batch_end(trainer, module, None, None, step)
    assert steps_of(log) == [4, 8, 10]
    assert {row.name for row in log.read()} == {
        "train/loss", "train/loss/image", "speed/samples_per_s", "speed/supervised_tokens_per_s", "lr/llm",
    }  # fmt: skip


def test_slices_of_one_step_are_one_row(log):
    writer = MetricsWriter(log, 1, {"world_image": "image"})
    trainer, module = parts(0)
    writer.on_train_start(trainer, module)
    trainer.global_step = 1
    for batch in range(3):
        writer.on_train_batch_end(trainer, module, None, None, batch)
    assert len([row for row in log.read() if row.name == "train/loss"]) == 1


def test_a_resumed_run_cuts_the_rows_beyond_its_step(log):
    log.append(5, {"train/loss": 1.0})
    log.append(9, {"train/loss": 1.0})
    writer = MetricsWriter(log, 1, {"world_image": "image"})
    trainer, module = parts(5)
    writer.on_train_start(trainer, module)
    assert steps_of(log) == [5]
    writer.on_train_batch_end(trainer, module, None, None, 0)  # the step resumed from was logged before
    assert len(log.read()) == 1


def test_what_is_shown_is_what_is_logged_and_a_dashboard_gets_it_too(log):
    told, begun = [], []
    dashboard = SimpleNamespace(begin=begun.append, log=lambda values, step: told.append((step, dict(values))))
    writer = MetricsWriter(log, 1, {"world_image": "image"}, dashboard)
    trainer, module = parts(0)
    writer.on_train_start(trainer, module)
    trainer.global_step = 1
    writer.on_train_batch_end(trainer, module, None, None, 0)
    assert module.latest["loss/image"] == 2.0
    assert module.latest["samples_per_s"] > 0
    assert begun == [[]]  # nothing was measured before
    ((step, values),) = told
    assert step == 1
    assert values == {row.name: row.value for row in log.read()}
