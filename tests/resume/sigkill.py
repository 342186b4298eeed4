"""Kill a training run at random moments, start it again with the same command, and compare with the unbroken run.

python tests/resume/sigkill.py --kills 20     (about ten minutes; prints one line a case and a verdict)
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TINY = [
    "debug=tiny",
    "trainer.progress=false",
    "evaluation.num_items=4",
    "trainer.checkpoint_every=3",
    "trainer.async_checkpoints=true",
]


@dataclass(frozen=True)
class Case:
    """One kind of run: with or without accumulation, loader workers, kept features (its unbroken run has none)."""

    stage: str
    slices_per_step: int
    workers: int
    steps: int = 40
    cache: str = "off"

    def command(self, runs: Path, data: Path) -> list[str]:
        """The command, the same before and after every kill."""
        target = {"align": ["stage=align", "modality=image"], "instruct": ["stage=instruct", "modality=image"]}
        return [
            sys.executable, "train.py", *target[self.stage], *TINY, f"paths.runs={runs}", f"paths.data={data}",
            f"stages.{self.stage}.steps={self.steps}", f"stages.{self.stage}.slices_per_step={self.slices_per_step}",
            f"data.workers={self.workers}", f"data.feature_cache={self.cache}",
        ]  # fmt: skip


CASES = [Case(stage, slices, workers) for stage in ("align", "instruct") for slices in (1, 2) for workers in (0, 2)]
CASES.append(Case("instruct", 1, 2, cache="on"))


def run(command: list[str]) -> subprocess.Popen[bytes]:
    """Start a command in a process group of its own, so that a kill takes its workers too."""
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )


def finish(command: list[str]) -> None:
    """Run a command to its end; its error is ours."""
    process = run(command)
    _, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {errors.decode()[-2000:]}")


def made(runs: Path, parents: Path) -> Path:
    """The folder of the run that the case trains: the one that its parents' folder does not hold."""
    (folder,) = [p for p in runs.iterdir() if not (parents / p.name).exists() and not p.name.startswith("curriculum")]
    return folder


def digest(folder: Path) -> str:
    """The digest of a finished run's weights."""
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["status"] == "finished", manifest["status"]
    return str(manifest["checkpoint"]["digest"])


def rows(folder: Path) -> list[str]:
    """The losses that the run logged (speeds differ between runs)."""
    return [line for line in (folder / "metrics.csv").read_text().splitlines() if "/loss" in line]


def kill_at_random(command: list[str], folder: Path, rng: random.Random) -> bool:
    """Start, wait until training goes on, kill after a random moment; False where the run ended before."""
    process = run(command)
    metrics = folder / "metrics.csv"
    stamp = metrics.stat().st_mtime if metrics.exists() else 0.0
    while process.poll() is None:
        if metrics.exists() and metrics.stat().st_mtime != stamp:
            break
        time.sleep(0.02)
    time.sleep(rng.uniform(0.0, 1.5))
    alive = process.poll() is None
    if alive:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return alive


def compare(case: Case, parents: Path, data: Path, kills: int, rng: random.Random) -> tuple[int, bool]:
    """Kills that struck, and whether the run ended with the weights and losses of the unbroken one."""
    with tempfile.TemporaryDirectory() as temporary:
        unbroken, broken = Path(temporary) / "unbroken", Path(temporary) / "broken"
        shutil.copytree(parents, unbroken)
        finish(replace(case, cache="off").command(unbroken, data))
        reference = made(unbroken, parents)
        shutil.copytree(parents, broken)
        folder = broken / reference.name
        struck = 0
        while struck < kills and kill_at_random(case.command(broken, data), folder, rng):
            struck += 1
        finish(case.command(broken, data))
        return struck, digest(folder) == digest(reference) and rows(folder) == rows(reference)


def make_parents(folder: Path, data: Path) -> Path:
    """The runs that the cases stand on."""
    runs = folder / "parents"
    finish(
        [sys.executable, "train.py", "stage=align", "modality=image", *TINY, f"paths.runs={runs}", f"paths.data={data}"]
    )
    return runs


def main() -> int:
    """Spread the kills over the cases; 0 where every run ended bit-identical."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    left, same = options.kills, 0
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary) / "data"
        parents = make_parents(Path(temporary), data)
        for number in range(len(CASES) * options.kills):
            if left <= 0:
                break
            case = CASES[number % len(CASES)]
            struck, equal = compare(case, parents, data, min(left, 3), rng)
            left -= struck
            same += struck if equal else 0
            sys.stdout.write(f"{case}: {struck} kills, {'bit-identical' if equal else 'DIFFERENT'}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{same} of {options.kills} kills ended bit-identical to the unbroken run\n")
    return 0 if same == options.kills else 1


if __name__ == "__main__":
    sys.exit(main())
