"""A study from its file to its table: two arms, one seed, on the tiny world and the shipped backbones."""

import json
import shutil
import subprocess
import sys

import pytest
import yaml

from modalign.cli import ablate_jobs
from modalign.cli.ablate_jobs import make_missing, plan_jobs
from modalign.cli.main import main
from modalign.config.study import commands_of, load_study
from modalign.runs.folder import RunFolder
from modalign.runs.manifest import Manifest, write_manifest

STUDY = {
    "title": "Replay or not",
    "base": [
        "debug=tiny", "stage=align", "curriculum.groups=[[image],[video]]", "model.backbones_from=shipped",
        "evaluation.splits=[test]", "trainer.threads=1", "trainer.progress=false",
    ],
    "baseline": "balanced",
    "arms": {"balanced": [], "none": ["stages.align.replay=none"]},
}  # fmt: skip


def write_study(root, name="replay", **changes):
    folder = root / "experiments" / name
    folder.mkdir(parents=True)
    (folder / "study.yaml").write_text(yaml.safe_dump(STUDY | changes))
    (folder / "README.md").write_text("# Replay\n\n<!-- result -->\nnothing yet\n<!-- /result -->\n\nVerdict: open.\n")
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_runs):
    """The study made once: its folder, and the words that say where everything lies."""
    root = tmp_path_factory.mktemp("study")
    folder = write_study(root)
    words = ["--folder", str(root / "experiments"), f"paths.runs={root / 'runs'}", f"paths.data={tiny_runs.data}"]
    assert main(["ablate", "replay", "--seeds", "0", *words]) == 0
    return folder, words


def result_of(folder):
    return json.loads((folder / "result.json").read_text())


def test_a_study_ends_in_a_table_with_paired_differences(finished):
    folder, _ = finished
    found = result_of(folder)
    assert [arm["name"] for arm in found["arms"]] == ["balanced", "none"]
    balanced, none = found["arms"]
    assert balanced["difference"]["value"] == 0
    assert none["difference"]["value"] == pytest.approx(none["mean"]["value"] - balanced["mean"]["value"], abs=1e-4)
    assert none["difference"]["low"] <= none["difference"]["value"] <= none["difference"]["high"]
    assert set(balanced["scores"]) == {"image", "video"}
    assert none["steps"] < balanced["steps"]
    assert "image" in none["changes"]


def test_the_page_of_the_study_holds_the_table_and_the_picture_is_drawn(finished):
    folder, _ = finished
    page = (folder / "README.md").read_text()
    assert "nothing yet" not in page
    assert "| balanced |" in page
    assert page.endswith("Verdict: open.\n")
    assert (folder / "result.md").read_text().strip() in page
    assert (folder / "result.svg").read_text().count("<path") > 5


def test_arms_share_what_they_have_in_common_and_backbones_are_not_made(finished):
    folder, _ = finished
    runs = folder.parents[1] / "runs"
    assert len(list(runs.glob("align-image-*"))) == 1
    assert len(list(runs.glob("align-video-*"))) == 2
    assert not list(runs.glob("pretrain*"))


def test_a_finished_study_is_found_again_and_nothing_is_made(finished, monkeypatch, capsys):
    folder, words = finished
    before = (folder / "result.json").read_bytes()
    monkeypatch.setattr(ablate_jobs, "_make", lambda *_: pytest.fail("a finished run was made again"))
    assert main(["ablate", "replay", "--seeds", "0", *words]) == 0
    told = capsys.readouterr().out
    assert "2 of 2" in told
    assert "assumed" not in told
    assert (folder / "result.json").read_bytes() == before


def test_what_is_not_finished_is_named_in_the_table(finished, tmp_path):
    _, words = finished
    assert main(["ablate", "replay", "--seeds", "0,1", "--report-only", "--out", str(tmp_path), *words]) == 0
    assert "Not finished: balanced, seed 1; none, seed 1." in (tmp_path / "replay" / "result.md").read_text()


def test_an_arm_that_fails_is_told_and_the_others_go_on(finished, tmp_path, capsys, monkeypatch):
    _, words = finished
    write_study(tmp_path, arms={"broken": ["stages.align.replay=equal"]} | STUDY["arms"])
    monkeypatch.setattr("modalign.stages.curriculum_run.run_all", fails)
    where = ["--folder", str(tmp_path / "experiments"), *words[2:]]
    assert main(["ablate", "replay", "--seeds", "0", *where]) == 1
    told = capsys.readouterr()
    assert "1 of 3 commands failed" in told.out
    assert "replay, arm broken, seed 0: the disk is full" in told.err
    assert [arm["name"] for arm in result_of(tmp_path / "experiments" / "replay")["arms"]] == ["balanced", "none"]


def fails(*_):
    raise OSError("the disk is full")


def test_a_run_that_another_process_writes_is_left_and_looked_at_again(finished, monkeypatch):
    folder, words = finished
    study = load_study(folder)
    jobs = plan_jobs(commands_of("replay", study, ["balanced", "none"], [7], tuple(words[2:])))
    taken = RunFolder(jobs[1].missing()[-1][1].path)
    made, said = [], []
    monkeypatch.setattr(ablate_jobs, "_make", lambda job, _: made.append(job.command.arm))
    monkeypatch.setattr(ablate_jobs.time, "sleep", lambda _: shutil.rmtree(taken.path))
    with taken.lock():
        assert make_missing(jobs[:1], said.append) == []
    (lock := taken.lock()).__enter__()
    monkeypatch.setattr(ablate_jobs.time, "sleep", lambda _: lock.__exit__(None, None, None))
    assert make_missing(jobs, said.append) == []
    assert made == ["balanced", "balanced", "none"]
    assert said == ["1 commands wait for runs that other processes are making"]
    shutil.rmtree(taken.path)


def test_a_run_that_has_failed_in_another_process_is_not_tried_again(finished, monkeypatch):
    folder, words = finished
    jobs = plan_jobs(commands_of("replay", load_study(folder), ["balanced"], [8], tuple(words[2:])))
    spec, other = jobs[0].missing()[-1]
    made = []
    monkeypatch.setattr(ablate_jobs, "_make", lambda job, _: made.append(job.command.arm))
    (lock := other.lock()).__enter__()

    def fail(_):
        write_manifest(other.path, Manifest(spec.name, spec.identity, spec.stage, status="failed", reason="no disk"))
        lock.__exit__(None, None, None)

    monkeypatch.setattr(ablate_jobs.time, "sleep", fail)
    (reason,) = make_missing(jobs, lambda _: None)
    assert reason.endswith(f"{other.name} has failed already: no disk")
    assert made == []
    assert make_missing(jobs, lambda _: None) == []
    assert made == ["balanced"]
    shutil.rmtree(other.path)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"baseline": "balancd"}, "unknown arm 'balancd' in baseline: did you mean 'balanced'?"),
        ({"arms": {"balanced": {"setings": []}}}, "study.yaml, arms.balanced: did you mean 'settings'?"),
        ({"modalities": ["image", "audoi"]}, "study.yaml: did you mean 'audio'?"),
        ({"title": None}, "title"),
    ],
)
def test_a_mistake_in_a_study_is_told_with_its_key(tmp_path, capsys, changes, told):
    write_study(tmp_path, **changes)
    with pytest.raises(SystemExit) as ended:
        main(["ablate", "replay", "--folder", str(tmp_path / "experiments"), "--list"])
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


def test_a_wrong_setting_of_an_arm_names_the_arm(tmp_path, capsys):
    write_study(tmp_path, arms={"balanced": [], "none": ["stages.align.replai=none"]})
    with pytest.raises(SystemExit):
        main(["ablate", "replay", "--folder", str(tmp_path / "experiments"), "--list", "--seeds", "0"])
    told = capsys.readouterr().err
    assert "replay, arm none, seed 0: " in told
    assert "did you mean 'replay'" in told


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_two_processes_share_the_runs_of_a_study(tmp_path, tiny_runs):
    folder = write_study(tmp_path)
    where = [
        "--folder",
        str(tmp_path / "experiments"),
        f"paths.runs={tmp_path / 'runs'}",
        f"paths.data={tiny_runs.data}",
    ]
    words = ["ablate", "replay", "--seeds", "0,1", "--processes", "2", *where]
    done = subprocess.run(
        [sys.executable, "-m", "modalign.cli.main", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert [arm["seeds"] for arm in result_of(folder)["arms"]] == [[0, 1], [0, 1]]
    assert len(list((tmp_path / "runs").glob("align-image-*"))) == 2
    assert len(list((tmp_path / "runs").glob("align-video-*"))) == 4


def test_a_table_of_more_runs_or_of_other_settings_is_not_replaced(finished, tmp_path, capsys):
    folder, words = finished
    before = (folder / "result.json").read_bytes()
    told = refused(["--seeds", "3", "--report-only", *words], capsys)
    assert "holds 2 arms and seeds, of which this command lacks 2 (the first: balanced, seed 0)" in told
    told = refused(["--seeds", "0", "stages.align.steps=3", *words], capsys)
    assert "was made with no settings of its own, this command has stages.align.steps=3" in told
    assert "--out DIR" in told
    assert (folder / "result.json").read_bytes() == before
    assert main(["ablate", "replay", "--seeds", "9", "--report-only", "--out", str(tmp_path), *words]) == 1
    assert "nothing to compare yet" in capsys.readouterr().out


def test_runs_that_were_measured_otherwise_than_asked_are_not_compared(finished, tmp_path, capsys):
    _, words = finished
    given = ["--seeds", "0", "--out", str(tmp_path), "evaluation.max_new_tokens=3"]
    told = refused([*given, *words], capsys)
    assert "was measured with max_new_tokens=" in told
    assert "a study compares what was measured alike" in told


def test_results_of_another_run_are_not_taken(finished, tmp_path, capsys):
    folder, words = finished
    one, other = sorted((folder.parents[1] / "runs").glob("align-video-*"))
    kept = (one / "results.json").read_bytes()
    (one / "results.json").write_bytes((other / "results.json").read_bytes())
    try:
        assert main(["ablate", "replay", "--seeds", "0", "--report-only", "--out", str(tmp_path), *words]) == 1
        assert f"{one.name} holds the results of {other.name}: measure it again" in capsys.readouterr().out
    finally:
        (one / "results.json").write_bytes(kept)


def test_an_arm_that_changes_no_run_is_told(finished, tmp_path, capsys):
    _, words = finished
    write_study(tmp_path, arms=STUDY["arms"] | {"same": ["stages.align.replay=balanced"]})
    assert (
        main(["ablate", "replay", "--list", "--seeds", "0", "--folder", str(tmp_path / "experiments"), *words[2:]]) == 0
    )
    assert "arm same stands for the very runs of balanced: what it sets changes no run" in capsys.readouterr().out
    assert "'fresh' is no setting here" in refused(["--list", "fresh=true", *words], capsys)


def refused(words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["ablate", "replay", *words])
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_what_changes_no_number_is_no_reason_to_refuse(finished, tmp_path):
    _, words = finished
    given = ["--seeds", "0", "--report-only", "--out", str(tmp_path), "evaluation.num_shown=0", "data.pairs=[]"]
    assert main(["ablate", "replay", *given, *words]) == 0


def test_a_run_that_two_arms_share_is_not_measured_in_two_ways(finished, tmp_path, capsys):
    _, words = finished
    write_study(tmp_path, arms=STUDY["arms"] | {"few": ["evaluation.num_items=3"]})
    where = ["--seeds", "5", "--folder", str(tmp_path / "experiments"), *words[2:]]
    told = refused(where, capsys)
    assert "arm few, seed 5 and replay, arm balanced, seed 5 share the run align-image-" in told
    assert "set num_items for the whole study" in told
