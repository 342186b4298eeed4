"""What a run shows while it trains, on a terminal and elsewhere, and what looking costs."""

import io
import logging
import time

import lightning.pytorch as pl
import pytest
import torch
from rich.console import Console

from modalign.callbacks.model_table import model_table
from modalign.callbacks.progress import Pace, StageProgress, loss_words, speed_words


class Line(pl.LightningModule):
    def __init__(self, fail_at=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.latest = {}
        self.fail_at = fail_at

    def training_step(self, batch, index):
        if index == self.fail_at:
            raise RuntimeError("stop")
        loss = (self.weight - 1).square().sum()
        name = "image" if index % 2 else "audio"
        self.latest = {"loss": 0.5, f"loss/{name}": 0.25, "samples_per_s": 1234.0, "tokens_per_s": 56789.0}
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(progress, steps=20, module=None):
    trainer = pl.Trainer(
        accelerator="cpu", max_steps=steps, callbacks=[progress], logger=False, enable_checkpointing=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module or Line(), torch.utils.data.DataLoader(torch.zeros(64, 1)))


def terminal():
    return Console(file=io.StringIO(), force_terminal=True, width=120, legacy_windows=False)


def test_a_terminal_sees_step_losses_speed_and_time_left():
    console = terminal()
    fit(StageProgress(updates_per_s=1e6, console=console))
    text = console.file.getvalue()
    assert "20/20" in text
    assert "loss 0.500 (audio 0.250, image 0.250)" in text
    assert "1,234 samples/s, 56,789 tokens/s, 0:00 left" in text


def test_elsewhere_a_plain_line_is_logged_every_so_often(caplog):
    ticks = iter(range(1000))
    with caplog.at_level(logging.INFO, "modalign.progress"):
        fit(StageProgress(line_every_s=8, console=Console(file=io.StringIO()), clock=lambda: float(next(ticks))))
    lines = [record.getMessage() for record in caplog.records if record.name == "modalign.progress"]
    assert len(lines) == 3  # after 8 s, after 16 s, and at the end
    assert lines[0].startswith("step 8/20 | loss 0.500 (audio 0.250, image 0.250) | 1,234 samples/s")
    assert lines[0].endswith("0:12 left")
    assert lines[-1].startswith("step 20/20")


def test_the_bar_is_drawn_at_most_so_many_times_a_second():
    console, ticks = terminal(), iter(i / 100 for i in range(1000))
    progress = StageProgress(updates_per_s=5, console=console, clock=lambda: next(ticks))
    draws = []
    original = progress._show
    progress._show = lambda *a: (draws.append(a[1]), original(*a))
    fit(progress, steps=60)
    assert len(draws) <= 5


def test_a_step_that_shows_nothing_costs_microseconds():
    progress = StageProgress(line_every_s=1000, console=Console(file=io.StringIO()))
    progress._due_s = float("inf")
    module = Line()
    module.latest = {"loss": 1.0} | {f"loss/sensor{i}": 1.0 for i in range(8)}
    begin = time.perf_counter()
    for _ in range(10_000):
        progress.on_train_batch_end(None, module, None, None, 0)
    assert (time.perf_counter() - begin) / 10_000 < 1e-4


def test_a_failing_run_leaves_the_terminal_in_order():
    console = terminal()
    with pytest.raises(RuntimeError, match="stop"):
        fit(StageProgress(console=console), module=Line(fail_at=3))
    assert console.file.getvalue().rstrip().endswith("\x1b[?25h")  # the cursor is shown again


def test_a_disabled_bar_shows_nothing():
    console = terminal()
    progress = StageProgress(updates_per_s=1e6, console=console)
    progress.disable()
    fit(progress)
    assert console.file.getvalue() == ""


def test_time_left_is_told_from_the_pace_of_this_call_not_of_the_resumed_steps():
    pace = Pace()
    pace.add(100.0, 900)
    assert pace.time_left_s(900, 1000) is None
    pace.add(110.0, 920)
    assert pace.time_left_s(920, 1000) == pytest.approx(40.0)


def test_words_leave_out_what_is_not_known():
    assert loss_words({}) == ""
    assert loss_words({"loss": 1.0}) == "loss 1.000"
    assert loss_words({"loss": 1.0, "loss/audio": 1.0}) == "loss 1.000 on audio 1.000"
    assert speed_words({}, None) == ""
    assert speed_words({}, 3725.0) == "1:02:05 left"


def test_the_table_of_parts_sums_what_trains():
    rows = [
        {"name": "encoders.clip", "parameters": 3000, "trains": False},
        {"name": "tokenizers.audio", "parameters": 1000, "trains": True},
    ]
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(model_table(rows))
    text = console.export_text()
    assert "encoders.clip" in text
    assert "frozen" in text
    assert "1,000 of 4,000 parameters train" in text
    assert "25.0%" in text
