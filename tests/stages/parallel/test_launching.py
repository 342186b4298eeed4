"""The command as people start it on several processes: by itself and by torchrun, from nothing to a report."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

TINY = (
    "stage=align", "modality=image", "debug=tiny", "trainer.accelerator=cpu", "trainer.threads=1",
    "trainer.progress=false", "evaluation.num_items=4",
)  # fmt: skip


ENTRY = Path(__file__).resolve().parents[3] / "train.py"


def torchrun(processes, *arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    return subprocess.run([*command, str(ENTRY), *arguments], capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def folders(tmp_path):
    return (f"paths.runs={tmp_path / 'runs'}", f"paths.data={tmp_path / 'data'}")


def finished(tmp_path, kind):
    (run,) = (tmp_path / "runs").glob(f"{kind}-*")
    assert (run / "report.html").exists()
    assert json.loads((run / "manifest.json").read_text())["status"] == "finished"
    return run


@pytest.mark.slow
def test_the_command_starts_its_other_process_and_each_thing_is_said_once(train_command, folders, tmp_path):
    done = train_command(*TINY, *folders, "trainer.devices=2", timeout=300)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert [line for line in said if line.startswith("phase")] == list(
        dict.fromkeys(line for line in said if line.startswith("phase"))
    )
    assert len([line for line in said if line.startswith("run report")]) == 1
    assert [line for line in done.stderr.splitlines() if not line.startswith("note:")] == []
    run = finished(tmp_path, "align-image")
    assert (run / "results.json").exists()
    again = train_command(*TINY, *folders, "trainer.devices=2", timeout=60)
    assert again.stdout.splitlines() == [f"finished already: {run} (fresh=true starts another beside it)"]


@pytest.mark.slow
def test_torchrun_starts_all_processes(folders, tmp_path):
    done = torchrun(2, *TINY, *folders, "trainer.engine=fsdp2", "trainer.activation_checkpointing=true")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("run report") == 1
    finished(tmp_path, "align-image")
    refused = torchrun(3, *TINY, *folders, "fresh=true")
    assert refused.returncode != 0
    told = [line for line in refused.stderr.splitlines() if line.startswith("error:")]
    assert told == [
        "error: stages.align.slice_size=8 does not divide among 3 processes (torchrun): start 2 processes, or set it "
        "to 9, which is another run"
    ]
