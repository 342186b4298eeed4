"""What a run shows while it trains: a bar on a terminal, one plain line now and then anywhere else."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from modalign.callbacks.model_table import model_table

__all__ = ["StageProgress", "model_table"]

_log = logging.getLogger("modalign.progress")
_LOSS_PREFIX = "loss/"


class StageProgress(ProgressBar):
    """Step, loss by modality, samples/s, tokens/s and time left, from `trainer` and the module's `latest` numbers.

    `latest` holds host floats (`loss`, `loss/<modality>`, `samples_per_s`, `tokens_per_s`) that the stage fills when
    it logs, so looking at them never waits for a device; a modality absent from the last window keeps its last loss.
    On a terminal a bar is drawn at most `updates_per_s` times a second; elsewhere one line is logged every
    `line_every_s` seconds.
    """

    def __init__(
        self,
        updates_per_s: float = 5.0,
        line_every_s: float = 30.0,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.enabled = True
        self._console = console or Console(stderr=True)
        self._bar: _Bar | None = None
        self._interval_s = 1 / updates_per_s if self._console.is_terminal else line_every_s
        self._clock = clock
        self._pace = Pace()
        self._shown: dict[str, float] = {}
        self._due_s = 0.0

    def disable(self) -> None:
        """Show nothing (Lightning calls this on every rank but the first)."""
        self.enabled = False

    def enable(self) -> None:
        """Show again."""
        self.enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin at the step that a resumed run begins at."""
        self._pace, self._shown = Pace(), {}
        now = self._clock()
        self._pace.add(now, trainer.global_step)
        self._due_s = now + self._interval_s
        if self.enabled and self._console.is_terminal:
            self._bar = _Bar(self._console, _total(trainer))
            self._bar.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take the module's numbers (a dict of a few floats) and look at the clock; draw only when it is time."""
        self._shown.update(getattr(pl_module, "latest", {}))
        now = self._clock()
        if not self.enabled or now < self._due_s:
            return
        self._due_s = now + self._interval_s
        self._show(trainer, now)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say why the steps pause."""
        if self._bar is not None:
            self._bar.say("validating")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Back to training."""
        if self._bar is not None:
            self._bar.say("training")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the last numbers and leave the terminal in order."""
        if self.enabled:
            self._show(trainer, self._clock())
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the terminal in order."""
        self._stop()

    def _show(self, trainer: Trainer, now_s: float) -> None:
        step, total = trainer.global_step, _total(trainer)
        self._pace.add(now_s, step)
        left = None if total is None else self._pace.time_left_s(step, total)
        if self._bar is not None:
            self._bar.draw(step, speed_words(self._shown, left), loss_words(self._shown))
        elif not self._console.is_terminal:
            of = f"step {step}" if total is None else f"step {step}/{total}"
            words = [of, loss_words(self._shown), speed_words(self._shown, left)]
            _log.info("%s", " | ".join(word for word in words if word))

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class Pace:
    """Steps a second over the last moments, for the time that is left."""

    def __init__(self, window: int = 50) -> None:
        self._marks: deque[tuple[float, int]] = deque(maxlen=window)

    def add(self, now_s: float, step: int) -> None:
        """Note that `step` steps were done at `now_s`."""
        self._marks.append((now_s, step))

    def time_left_s(self, step: int, total: int) -> float | None:
        """Seconds until `total` at the recent pace; None before two different steps were seen."""
        (first_s, first), (last_s, last) = self._marks[0], self._marks[-1]
        if last <= first:
            return None
        return (total - step) * (last_s - first_s) / (last - first)


class _Bar(Progress):
    """A rich progress bar with the losses on a line of their own, redrawn only when told."""

    def __init__(self, console: Console, total: int | None) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:.0f}/{task.total:.0f}" if total else "{task.completed:.0f}"),
            TextColumn("[dim]{task.fields[speed]}"),
        )
        self._losses = ""
        super().__init__(*columns, console=console, auto_refresh=False)
        self._task = self.add_task("training", total=total, speed="")

    def get_renderables(self) -> Iterable[RenderableType]:
        """The bar, and below it the losses."""
        yield self.make_tasks_table(self.tasks)
        if self._losses:
            yield Text(self._losses)

    def draw(self, step: int, speed: str, losses: str) -> None:
        """Redraw with these numbers."""
        self._losses = losses
        self.update(self._task, completed=step, speed=speed)
        self.refresh()

    def say(self, what: str) -> None:
        """Redraw with another description."""
        self.update(self._task, description=what)
        self.refresh()


def loss_words(latest: Mapping[str, float]) -> str:
    """The loss, and each modality's, in words: `loss 0.512 (audio 0.611, image 0.420)`."""
    losses = {name.removeprefix(_LOSS_PREFIX): value for name, value in latest.items() if name.startswith(_LOSS_PREFIX)}
    parts = [f"{name} {value:.3f}" for name, value in losses.items()]
    listing = ", ".join(parts)
    if "loss" not in latest:
        return f"loss {listing}" if listing else ""
    return f"loss {latest['loss']:.3f}" + (f" ({listing})" if len(parts) > 1 else f" on {listing}" if parts else "")


def speed_words(latest: Mapping[str, float], left_s: float | None) -> str:
    """Samples and tokens a second and the time left, as far as they are known."""
    words = []
    if "samples_per_s" in latest:
        words.append(f"{latest['samples_per_s']:,.0f} samples/s")
    if "tokens_per_s" in latest:
        words.append(f"{latest['tokens_per_s']:,.0f} tokens/s")
    if left_s is not None:
        minutes, seconds = divmod(round(left_s), 60)
        hours, minutes = divmod(minutes, 60)
        words.append(f"{hours}:{minutes:02}:{seconds:02} left" if hours else f"{minutes}:{seconds:02} left")
    return ", ".join(words)


def _total(trainer: Trainer) -> int | None:
    return trainer.max_steps if trainer.max_steps is not None and trainer.max_steps > 0 else None
