"""How long a save holds the training: waited for, written beside it, and none, in turn within one training.

python experiments/speed/saving.py --rounds 15      (the embedded model on a few samples; two minutes on two cores)
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from modalign.config.compose import compose_settings
from modalign.config.recipes import RecipeBook
from modalign.config.specs import Planner
from modalign.runs.folder import RunFolder
from modalign.runs.interrupt import InterruptFlag
from modalign.runs.sealed import list_checkpoints
from modalign.runs.writer import Writer
from modalign.stages.engine import Engine
from modalign.stages.measure import Measure
from modalign.stages.notices import quiet_libraries
from modalign.stages.phase_run import PhaseRun
from modalign.stages.sources import SourceBook

KINDS = ("waited for", "beside", "none")


class Turns(pl.Callback):
    """After every `apart` steps another kind of save; how long each held the loop, and how long the steps took."""

    def __init__(self, folder: Path, writer: Writer, apart: int) -> None:
        self.folder, self.writer, self.apart = folder, writer, apart
        self.held: dict[str, list[float]] = {kind: [] for kind in KINDS}
        self.taken: dict[str, list[float]] = {kind: [] for kind in KINDS}
        self._began, self._kind = 0.0, ""

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: object) -> None:
        """A step has ended."""
        if trainer.global_step % self.apart:
            return
        now = time.perf_counter()
        if self._kind:
            self.taken[self._kind].append(now - self._began)
        self.writer.wait()
        number = trainer.global_step // self.apart
        # Every other round goes backwards.
        self._kind = KINDS[number % 3] if number // 3 % 2 else KINDS[-1 - number % 3]
        self.writer.background = self._kind == "beside"
        self._began = time.perf_counter()
        if self._kind != "none":
            trainer.save_checkpoint(self.folder / "step")
        self.held[self._kind].append(time.perf_counter() - self._began)


def measure(rounds: int, apart: int, folder: Path) -> Turns:
    """Train the embedded model's image phase on a few samples, saving in turn."""
    settings, plain = compose_settings([
        "stage=align", "modality=image", "world=tiny", "model.backbones_from=shipped", "trainer.progress=false",
        f"paths.runs={folder / 'runs'}", f"paths.data={folder / 'data'}",
        f"stages.align.steps={apart * (3 * rounds + 1) + 1}",
    ])  # fmt: skip
    sources = SourceBook(settings, RecipeBook(settings))
    *_, parent, spec = Planner(settings, sources.book).plan()
    sources.ensure(list(spec.recipes))
    from modalign.config.places import shipped_runs

    run = RunFolder(folder / "run").prepare()
    phase = PhaseRun(spec, run, RunFolder(parent.folder(shipped_runs())), sources, Measure(sources), [], plain)
    module, data, _ = phase.assemble()
    engine = Engine(sources, spec, run, InterruptFlag(), plain)
    turns = Turns(run.checkpoints, engine.writer, apart)
    with engine.writer:
        engine.train(module, data, [turns], None)
    size = sum(file.stat().st_size for file in list_checkpoints(run.checkpoints)[-1].iterdir())
    sys.stdout.write(f"a checkpoint of {size / 1e6:.1f} MB\n")
    return turns


def main() -> None:
    """Print medians in ms, and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--apart", type=int, default=8, help="steps between saves")
    options = parser.parse_args()
    quiet_libraries(tell=False)
    with tempfile.TemporaryDirectory(dir=".") as folder:
        turns = measure(options.rounds, options.apart, Path(folder))
    for kind in KINDS:
        held, taken = (1000 * statistics.median(values[kind][1:]) for values in (turns.held, turns.taken))
        sys.stdout.write(f"{kind:10}: held {held:7.1f} ms, {options.apart} steps with it {taken:8.1f} ms\n")
    waited, beside, none = (statistics.median(turns.taken[kind][1:]) for kind in KINDS)
    held = statistics.median(turns.held["beside"][1:]) / statistics.median(turns.held["waited for"][1:])
    sys.stdout.write(f"held beside over waited for {held:.2f}; cost of a save {1000 * (waited - none):.1f} ms waited ")
    sys.stdout.write(f"for, {1000 * (beside - none):.1f} ms beside\n")


if __name__ == "__main__":
    main()
