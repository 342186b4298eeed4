"""Job scripts: what stands in them, that bash reads them, and what is refused in one line."""

import contextlib
import io
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from modalign.cli import slurm_script
from modalign.cli.main import main
from modalign.cli.slurm_script import seconds

ROOT = Path(__file__).resolve().parents[2]
AUDIO = ("stage=align", "modality=audio")


@pytest.fixture(autouse=True)
def cluster(monkeypatch):
    """No SLURM of the machine's own; a list stands for the partitions of another."""
    names = []
    monkeypatch.setattr(slurm_script, "partitions", lambda: names)
    return names


def options_of(text):
    """The options for sbatch, by name; a flag alone is empty."""
    lines = [line.split()[1] for line in text.splitlines() if line.startswith("#SBATCH")]
    return dict(line.partition("=")[::2] for line in lines)


def test_two_nodes_of_eight_gpus_run_one_task_a_gpu(modalign):
    said = modalign("slurm-script", *AUDIO, "--partition", "gpu", "--nodes", 2, "--gpus-per-node", 8, "--mem", "200G")
    assert said.code == 0, said.err
    wanted = {
        "--partition": "gpu", "--nodes": "2", "--ntasks-per-node": "8", "--gpus-per-node": "8", "--mem": "200G",
        "--time": "24:00:00", "--signal": "USR1@300", "--requeue": "", "--open-mode": "append",
    }  # fmt: skip
    assert options_of(said.out).items() >= wanted.items()
    assert "train.py trainer=slurm stage=align modality=audio" in said.out


def test_what_the_script_runs_is_what_was_typed_whatever_characters_it_holds(modalign, tmp_path):
    words = ["stage=align", "modality=[image,audio]", f"paths.runs='{tmp_path}/my runs'"]
    said = modalign("slurm-script", *words, "--partition", "cpu", "--gpus-per-node", 0, "--setup", "module load x")
    assert said.code == 0, said.err
    (line,) = [line for line in said.out.splitlines() if line.startswith("srun ")]
    assert shlex.split(line)[-3:] == words
    assert f"'{tmp_path}/my runs'" in said.out
    assert "\nmodule load x\n" in said.out
    assert "gpus" not in "".join(options_of(said.out))
    assert subprocess.run(["bash", "-n"], input=said.out, text=True, check=False).returncode == 0


def test_another_trainer_may_be_chosen(modalign):
    said = modalign("slurm-script", "trainer=auto", *AUDIO, "--partition", "gpu")
    assert "trainer=slurm" not in said.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "a job script needs a partition: add --partition NAME (`sinfo` lists them)"),
        (["--partition", "gpu", "--nodes", "0"], "--nodes 0: should be at least 1"),
        (["--partition", "gpu", "--gpus-per-node", "3"], "slice_size=16 does not divide among 3"),
        (["--partition", "gpu", "--gpus-per-node", "2", "--tasks-per-node", "4"], "one task a GPU"),
        (["--partition", "gpu", "--time", "5"], "--time 5 is 300 s, of which the last 300 are for saving"),
        (["--partition", "gpu", "--time", "one day"], "SLURM takes minutes"),
        (["--partition", "gpu", "modality=audoi"], "did you mean 'audio'?"),
        (["--partition", "gpu", "--node", "2"], "did you mean '--nodes'?"),
    ],
)
def test_a_wrong_job_is_refused_before_it_is_queued(modalign, words, message):
    assert message in modalign("slurm-script", *AUDIO, *words).error


def test_a_partition_that_the_cluster_does_not_have_names_the_nearest(modalign, cluster):
    cluster += ["gpu", "gpu-long", "cpu"]
    assert "did you mean 'gpu'?" in modalign("slurm-script", *AUDIO, "--partition", "gpus").error
    assert modalign("slurm-script", *AUDIO).error.endswith("(this cluster has gpu, gpu-long, cpu)")
    assert modalign("slurm-script", *AUDIO, "--partition", "gpu").code == 0


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("90", 5400), ("1:30", 90), ("2:00:00", 7200), ("2-0", 172800), ("1-12:30", 131400), ("1-0:0:5", 86405)],
)
def test_time_limits_are_read_as_slurm_reads_them(limit, expected):
    assert seconds(limit) == expected


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A job script beside stand-ins for SLURM's programs, which write down what they are asked for."""
    folder = tmp_path_factory.mktemp("job")
    programs = {
        "scontrol": f'[ "$1" = requeue ] && echo "$@" >> {folder}/asked || echo n1',
        "squeue": "echo $STATE",
        "srun": "eval $DOES; exit $CODE",
    }
    for name, line in programs.items():
        (folder / name).write_text(f"#!/bin/bash\n{line}\n")
        (folder / name).chmod(0o755)
    with contextlib.redirect_stdout(io.StringIO()) as text:
        assert main(["slurm-script", *AUDIO, f"paths.runs={folder}/runs", "--partition", "gpu"]) == 0
    (folder / "job.sbatch").write_text(text.getvalue())
    return folder


@pytest.mark.parametrize(
    ("code", "saved", "state", "again"),
    [
        (0, True, "RUNNING", False),
        (2, True, "RUNNING", False),  # a mistake in the input
        (137, True, "RUNNING", True),  # a task was killed, and there is something to go on from
        (137, False, "RUNNING", False),  # it would be killed again at the same place
        (137, True, "COMPLETING", False),  # SLURM is at it itself, or somebody cancelled it
        (75, False, "RUNNING", True),  # saved, but the task could not reach scontrol
        (75, True, "COMPLETING", False),  # saved, and put back by the first task
    ],
)
def test_the_script_puts_a_job_back_that_was_killed_without_a_word(job, code, saved, state, again):
    (job / "job-7.killed").unlink(missing_ok=True)
    assert submit(job, code, saved, state) == (["requeue 7"] if again else [])


def test_a_job_that_is_killed_again_and_again_is_left_to_somebody_s_eyes(job):
    (job / "job-7.killed").unlink(missing_ok=True)
    assert [submit(job, 137, saved=True) for _ in range(4)] == [["requeue 7"]] * 3 + [[]]
    assert submit(job, 75, saved=True) == ["requeue 7"]  # to be preempted is no fault of its own


def submit(job, code, saved, state="RUNNING"):
    """What the script asks of scontrol after tasks that end with `code`; its own exit code is theirs."""
    shutil.rmtree(job / "runs", ignore_errors=True)
    (job / "asked").write_text("")
    does = f"sleep 0.02; mkdir -p {job}/runs/align/checkpoints/step-00000002" if saved else ":"
    variables = {
        "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_CPUS_PER_TASK": "8", "STATE": state,
        "CODE": str(code), "DOES": does, "PATH": f"{job}:{os.environ['PATH']}",
    }  # fmt: skip
    done = subprocess.run(["bash", job / "job.sbatch"], env=os.environ | variables, check=False, cwd=job)
    assert done.returncode == code
    return (job / "asked").read_text().splitlines()


def test_the_shipped_example_is_what_the_verb_writes():
    example = (ROOT / "docs" / "examples" / "two_nodes.sbatch").read_text()
    command = shlex.split(example.splitlines()[1].partition("modalign slurm-script ")[2])
    with contextlib.redirect_stdout(io.StringIO()) as text:
        assert main(["slurm-script", *command]) == 0
    assert text.getvalue() == example
