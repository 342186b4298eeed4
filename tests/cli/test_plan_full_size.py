"""OneLLM-7B planned where nothing of it is: in time, in little memory, with numbers that can be reckoned by hand."""

import json
import resource
import subprocess
import sys

import pytest

from modalign.cli.main import run_verb

WORDS = ("model=onellm_7b", "curriculum=onellm", "trainer.precision=bf16-mixed", "trainer.engine=fsdp2")
ASKED = ("--hardware", "a100", "--devices", "8", "--json", "plan.json")
LIMIT_S, PEAK_BYTES = 30.0, 4e9  # seconds of processor time, imports included: the machine may be shared


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """What a process of its own says, with its seconds of processor time and its peak in bytes."""
    folder = tmp_path_factory.mktemp("plan")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "modalign.cli.main", "plan", *WORDS, *ASKED]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr[-2000:]
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return json.loads((folder / "plan.json").read_text()), done.stdout, spent, after.ru_maxrss * 1024


@pytest.mark.slow
@pytest.mark.alone
def test_seven_billion_parameters_are_planned_within_half_a_minute_and_four_gigabytes(planned):
    _, _, spent_s, peak_bytes = planned
    sys.stderr.write(f"{spent_s:.1f} s of processor time, {peak_bytes / 1e9:.2f} GB\n")
    assert spent_s < LIMIT_S
    assert peak_bytes < PEAK_BYTES


@pytest.mark.slow
@pytest.mark.alone
def test_its_numbers_are_those_that_can_be_reckoned_by_hand(planned):
    plan, said, _, _ = planned
    image, *others, tuned = plan["phases"]
    assert [image["new"], *(phase["new"] for phase in others)] == [
        ["image"], ["video", "audio", "point"], ["depth", "normal", "imu", "fmri"],
    ]  # fmt: skip
    assert (image["samples"], tuned["samples"]) == (128_000_000, 3_072_000)
    llm = {part["name"]: part for part in tuned["parts"]}["llm"]
    # One of eight shards of what trains: weights and gradients in float32, two moments beside them.
    assert llm["weights"] == pytest.approx(4 * 6_738_415_616 / 8, rel=0.01)
    assert (llm["gradients"], llm["trains"]) == (pytest.approx(llm["weights"], rel=0.01), True)
    assert llm["optimizer"] == pytest.approx(2 * llm["gradients"], rel=0.01)
    # Two FLOPs for each weight and token, forward; 34 tokens of text, 32 soft ones.
    forward = image["flops"]["llm"]["forward"] / image["samples"]
    assert forward == pytest.approx(2 * 6.6e9 * 66, rel=0.05)
    assert image["tokens"]["image"] == {"frames": 1, "tokens": 256, "encoded": 257, "soft": 32}
    told = "\n".join(plan["missing"])
    for missing in ("recipe laion400m", "language model meta-llama/Llama-2-7b-hf", "encoder ViT-L-14-quickgelu openai"):
        assert missing in told
        assert missing in said


def test_its_runs_are_listed_at_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_verb("plan", [*WORDS, "--runs"]) == 0
    said = capsys.readouterr().out
    assert "align-depth+normal+imu+fmri-" in said
    assert "128,000,000" in said
