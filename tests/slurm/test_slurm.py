"""A two-node job on a real SLURM, taken down in every way that SLURM has, ends as if nothing had happened."""

import contextlib
import importlib.util
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from modalign.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("cluster", Path(__file__).with_name("cluster.py"))
cluster_module = importlib.util.module_from_spec(spec)
sys.modules["cluster"] = cluster_module
spec.loader.exec_module(cluster_module)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.alone,
    pytest.mark.skipif(bool(cluster_module.missing()), reason=f"SLURM is not installed: {cluster_module.missing()}"),
]
STEPS = 400  # SLURM looks at time limits every 30 s: the job must not be done by then
SOON = "StartTime=now+3"  # within the second in which a job was ended, slurmd takes its next start for the one it ended
PATIENCE_S = 400.0  # a process imports for ten seconds on a machine of its own, and for minutes on a shared one


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with cluster_module.running(tmp_path_factory.mktemp("slurm")) as started:
        yield started


@dataclass
class Job:
    """A job of `modalign slurm-script`, submitted in a folder of its own."""

    cluster: object
    folder: Path
    number: str = ""
    restarts: int = 0

    def submit(self, data: Path, partition: str, *settings: str) -> "Job":
        words = [
            "stage=align", "modality=image", "debug=tiny", f"paths.data={data}", "trainer.threads=1",
            "trainer.accelerator=cpu", *settings, "--partition", partition, "--nodes", "2", "--gpus-per-node", "0",
            "--cpus-per-task", "1", "--mem", "100",
        ]  # fmt: skip
        with contextlib.redirect_stdout(io.StringIO()) as script:
            assert main(["slurm-script", *words]) == 0
        (self.folder / "train.py").symlink_to(ROOT / "train.py")
        (self.folder / "job.sbatch").write_text(script.getvalue())
        self.number = self.cluster.run("sbatch", "--parsable", "--exclusive", "job.sbatch", cwd=self.folder)
        return self

    @property
    def run(self) -> Path:
        (found,) = self.folder.glob("runs/align-image-*")
        return found

    @property
    def log(self) -> str:
        log = self.folder / f"slurm-{self.number}.out"
        return log.read_text() if log.exists() else ""

    @property
    def manifest(self) -> dict:
        return json.loads((self.run / "manifest.json").read_text())

    @property
    def losses(self) -> list[str]:
        return [line for line in (self.run / "metrics.csv").read_text().splitlines() if "/loss" in line]

    @property
    def checkpoint(self) -> int:
        """The optimizer step of the newest checkpoint."""
        return max((int(p.name.removeprefix("step-")) for p in self.run.glob("checkpoints/step-*")), default=0)

    def state(self, name: str = "JobState") -> str:
        return self.cluster.job(self.number)[name]

    def update(self, *words: str) -> None:
        self.cluster.run("scontrol", "update", f"JobId={self.number}", *words)

    def wait(self, until) -> None:
        try:
            self.cluster.wait(until, PATIENCE_S)
        except TimeoutError as error:
            raise AssertionError(f"{error}\n{self.cluster.job(self.number)}\n{self.log}") from None

    def wait_until_it_trains(self, saves: bool = False) -> None:
        """Until this stretch has taken a few steps, and with `saves` a periodic checkpoint."""
        begun = self.step() if self.restarts else 0
        saved = self.checkpoint if self.restarts else 0
        self.wait(lambda: self.step() > begun + 3 and (not saves or self.checkpoint > saved))

    def step(self) -> int:
        """The last step in the metrics, 0 before there are any."""
        try:
            return int(self.losses[-1].partition(",")[0])
        except (ValueError, IndexError, FileNotFoundError):
            return 0

    def wait_until_it_is_back_in_the_queue(self) -> None:
        """And nothing of the stretch before is still ending."""
        self.restarts += 1
        self.wait(lambda: self.state() == "PENDING" and self.cluster.idle())
        assert self.state("Restarts") == str(self.restarts)

    def start_again(self, *changes: str) -> None:
        """Soon, not after the two minutes that SLURM gives a requeued job."""
        self.update(SOON, *changes)

    def preempt(self) -> None:
        self.cluster.run("sbatch", "-p", "high", "-N", "2", "--exclusive", "-o", "/dev/null", "--wrap", "true")
        self.wait_until_it_is_back_in_the_queue()

    def kill_task(self, rank: int) -> None:
        os.kill(next(self._processes(rank)), signal.SIGKILL)

    def _processes(self, rank: int):
        """Ids of the processes that are task `rank` itself (its children have its environment, too)."""
        wanted = {f"SLURM_JOB_ID={self.number}".encode(), f"SLURM_PROCID={rank}".encode()}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                own = wanted < set((folder / "environ").read_bytes().split(b"\0"))
                if own and b"train.py" in (folder / "cmdline").read_bytes().split(b"\0"):
                    yield int(folder.name)


@pytest.fixture(scope="module")
def job(cluster, tiny_runs, job_folder):
    """`job(name, partition, …)` submits one in a folder of its own."""

    def make(name: str, partition: str, *settings: str) -> Job:
        return Job(cluster, job_folder(name)).submit(tiny_runs.data, partition, *settings)

    return make


@pytest.fixture(scope="module")
def job_folder(tiny_runs, tmp_path_factory):
    """`job_folder(name)` is a folder where the backbones are made already, and jobs find this checkout."""

    def make(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        for backbone in (tiny_runs.text, tiny_runs.contrast):
            shutil.copytree(backbone, folder / "runs" / backbone.name)
        return folder

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT / "src"))
        patch.setenv("OMP_NUM_THREADS", "1")
        yield make


def test_a_job_that_is_preempted_timed_out_and_killed_ends_bit_identical_to_the_unbroken_one(job):
    settings = [f"stages.align.steps={STEPS}", "stages.align.slice_size=32", "trainer.checkpoint_every=10"]
    broken = job("broken", "low", *settings, "logger=wandb", "logger.mode=offline")

    broken.wait_until_it_trains()
    broken.preempt()
    assert_saved_at(broken, "SIGTERM", "is started again by SLURM itself")
    broken.start_again()

    broken.wait_until_it_trains()
    broken.preempt()
    assert_saved_at(broken, "SIGTERM", "is started again by SLURM itself")
    broken.start_again("Partition=graced")

    broken.wait_until_it_trains()
    broken.preempt()
    assert_saved_at(broken, "SIGTERM", "is in the queue again")
    broken.start_again("Partition=low")

    broken.wait_until_it_trains()
    broken.update("TimeLimit=1")
    broken.wait_until_it_is_back_in_the_queue()
    assert_saved_at(broken, "SIG(?:USR1|TERM)", "is in the queue again")  # TERM where the minute was over already
    broken.start_again("TimeLimit=1-0")

    broken.wait_until_it_trains(saves=True)
    broken.kill_task(rank=1)
    broken.wait_until_it_is_back_in_the_queue()
    assert "Killed" in broken.log
    broken.start_again()

    broken.wait(lambda: broken.state() == "COMPLETED")
    unbroken = job("unbroken", "low", *settings)
    unbroken.wait(lambda: unbroken.state() == "COMPLETED")
    assert unbroken.manifest["checkpoint"]["digest"] == broken.manifest["checkpoint"]["digest"]
    assert unbroken.losses == broken.losses
    assert (broken.state("Restarts"), unbroken.state("Restarts")) == ("5", "0")
    assert wandb_ids(broken) == {(broken.run / "wandb-id").read_text()}


def test_a_sweep_is_one_job_a_combination_and_a_job_that_is_told_to_stop_goes_on(cluster, tiny_runs, job_folder):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    folder = job_folder("sweep")
    words = [
        "--multirun", "hydra/launcher=submitit_slurm", "hydra.launcher.partition=low", "trainer=slurm", "stage=align",
        "modality=image", "debug=tiny", f"paths.data={tiny_runs.data}", f"paths.runs={folder}/runs",
        "trainer.threads=1", "trainer.accelerator=cpu", "stages.align.slice_size=32", "stages.align.steps=2,160",
    ]  # fmt: skip
    sweep = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *words], cwd=folder, env=os.environ | cluster.environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        cluster.wait(lambda: last_steps(folder).get(160, 0) > 3 and len(jobs(cluster)) == 1, PATIENCE_S)
        (long,) = jobs(cluster)
        cluster.run("scancel", "--signal=USR2", long)  # submitit's notice of a time limit
        cluster.wait(lambda: cluster.job(long)["JobState"] == "PENDING" and cluster.idle(), PATIENCE_S)
        cluster.run("scontrol", "update", f"JobId={long}", SOON)
        _, said = sweep.communicate(timeout=PATIENCE_S)
    finally:
        sweep.kill()
    assert sweep.returncode == 0, said
    assert cluster.job(long)["Restarts"] == "1"
    manifests = [json.loads(path.read_text()) for path in folder.glob("runs/align-image-*/manifest.json")]
    assert sorted((m["steps"], m["status"]) for m in manifests) == [(2, "finished"), (160, "finished")]


def jobs(cluster) -> list[str]:
    return cluster.run("squeue", "-h", "-r", "-o", "%i").split()  # 6_1, for 6 is all tasks of the array


def last_steps(folder: Path) -> dict[int, int]:
    """The last step that each run has logged, by the number of steps that it is to take."""
    found = {}
    for path in folder.glob("runs/align-image-*/manifest.json"):
        metrics = path.parent / "metrics.csv"
        rows = metrics.read_text().splitlines()[1:] if metrics.exists() else []
        found[json.loads(path.read_text())["steps"]] = int(rows[-1].partition(",")[0]) if rows else 0
    return found


def assert_saved_at(job: Job, signals: str, back: str) -> None:
    """The stretch that was stopped is saved whole: nothing that was trained is trained again."""
    *_, told = re.findall(rf"stopped by {signals} at step (\d+) of {STEPS}, saved; .*; SLURM job \d+ {back}", job.log)
    step = int(told)
    assert job.manifest["status"] == "interrupted"
    assert job.checkpoint == step
    assert job.step() == step


def wandb_ids(job: Job) -> set[str]:
    """The ids of the W&B runs, of which every stretch has written a part."""
    parts = list(job.run.glob("wandb/offline-run-*"))
    assert len(parts) == job.restarts + 1
    return {part.name.rpartition("-")[2] for part in parts}
