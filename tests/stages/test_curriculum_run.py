"""Several phases in one command: what is missing is made or named, and the curriculum points at its runs."""

import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from modalign.errors import ModalignError
from modalign.evaluation.gate import GateClosed
from modalign.evaluation.scores import read_results, results_bytes
from modalign.runs.folder import FolderTaken, RunFolder
from modalign.runs.interrupt import Interrupted
from modalign.runs.manifest import read_manifest
from modalign.runs.record import read_record
from modalign.stages.phase_run import PhaseRun

ROOT = Path(__file__).resolve().parents[2]


def test_a_missing_phase_is_named_with_the_command_that_makes_it(own_shop):
    shop = own_shop()
    with pytest.raises(ModalignError) as told:
        shop.train("stage=align", "modality=fmri", "model.make_missing=false")
    assert "phase align-audio-" in str(told.value)
    (command,) = re.findall("`python train.py (.*)`", str(told.value))
    settings = tuple(shlex.split(command))
    assert settings[: len(shop.overrides())] == shop.overrides()
    made = shop.train(*settings[len(shop.overrides()) :])
    assert f"phase {made.name} is missing" in str(told.value)
    assert not list(shop.runs.glob("align-fmri-*"))


def test_the_curriculum_points_at_its_runs_in_order(backbones, instructed, image, audio):
    wanted = [image.name, audio.name, instructed.name]
    records = {place: read_record(place) for place in backbones.runs.glob("curriculum-*")}
    (place,) = [p for p, record in records.items() if [Path(phase.run).name for phase in record.phases] == wanted]
    record = records[place]
    assert record.status == "finished"
    assert [phase.stage for phase in record.phases] == ["align", "align", "instruct"]
    assert all((place / phase.run).is_dir() for phase in record.phases)
    assert (place / "report.html").exists()


def test_the_record_says_where_a_phase_stopped_it_and_forgets_it_when_it_went_on(
    own_shop, audio, told_to_stop, monkeypatch
):
    shop = own_shop()
    words = ("stage=align", "modality=audio", "evaluation.forward_items=0")
    with told_to_stop(1), pytest.raises(Interrupted):
        shop.train(*words)
    (place,) = shop.runs.glob("curriculum-*")
    record = read_record(place)
    assert record.status == "interrupted"
    assert record.reason.startswith(f"{audio.name}: ")
    assert [Path(phase.run).name.rpartition("-")[0] for phase in record.phases] == ["align-image"]
    with monkeypatch.context() as patch:
        patch.setattr(PhaseRun, "_train", broken)
        with pytest.raises(OSError, match="full"):
            shop.train(*words)
    assert (read_record(place).status, read_record(place).reason) == ("failed", f"{audio.name}: the disk is full")
    shop.train(*words)
    assert (read_record(place).status, read_record(place).reason) == ("finished", None)


def broken(*_):
    raise OSError("the disk is full")


def test_fresh_begins_another_run_beside_the_finished_one(own_shop, image):
    shop = own_shop()
    assert shop.train("stage=align", "modality=image", "fresh=true")
    names = sorted(path.name for path in shop.runs.glob("align-image-*"))
    assert names == [image.name, f"{image.name}-2"]


def test_what_a_command_stands_on_is_made_in_the_same_command(backbones, audio):
    """Only `stage=align modality=audio` was asked for; image, and both backbones, came with it."""
    parents = [audio.manifest().parent["name"].split("-")[0:2]]
    assert parents == [["align", "image"]]


def test_a_phase_that_costs_too_much_stops_the_curriculum_and_goes_on_doing_so(
    own_shop, image, audio, instructed, train_command
):
    shop = own_shop()
    results = read_results(shop.runs / image.name)
    perfect = tuple(replace(s, value=1.0) if s.metric == "attribute_accuracy" else s for s in results.scores)
    (shop.runs / image.name / "results.json").write_bytes(results_bytes(replace(results, scores=perfect)))
    words = ("stage=instruct", "modality=[image,audio]", "curriculum.gate.max_forgetting=5")
    with pytest.raises(GateClosed) as told:
        shop.train(*words, "evaluation.forward_items=0")
    assert f"the curriculum stops after {audio.name}: image is" in str(told.value)
    assert not list(shop.runs.glob("instruct-*"))
    manifest = read_manifest(shop.runs / audio.name)
    assert manifest.status == "finished"
    assert not manifest.extra["gate"]["kept"]
    assert "Its curriculum stopped here: image changed by" in (shop.runs / audio.name / "report.html").read_text()
    (place,) = shop.runs.glob("curriculum-*")
    assert (read_record(place).status, read_record(place).reason) == ("stopped", str(told.value))
    assert "This curriculum is <strong>stopped</strong>: the curriculum stops" in (place / "report.html").read_text()

    again = train_command(*shop.overrides(*words))
    assert again.returncode == 3
    assert again.stderr == f"error: {told.value}\n"
    assert not list(shop.runs.glob("instruct-*"))
    # What a new modality scored before its first step leaves no trace in what is trained.
    assert not read_results(shop.runs / audio.name).before
    assert manifest.checkpoint == audio.manifest().checkpoint


def test_what_a_new_modality_scores_before_its_first_step_is_kept(image, audio, instructed):
    assert not read_results(image.path).before  # there was nothing before it that could have helped
    assert {(s.modality, s.n) for s in read_results(audio.path).before} == {("audio", 3)}
    assert not read_results(instructed.path).before


@pytest.mark.slow
def test_a_sweep_over_two_seeds_makes_two_runs(tmp_path):
    command = [
        sys.executable, "train.py", "--multirun", "seed=0,1", "stage=pretrain_text", "debug=tiny",
        "trainer.progress=false", "trainer.threads=1", f"paths.runs={tmp_path / 'runs'}",
        f"paths.data={tmp_path / 'data'}", f"hydra.sweep.dir={tmp_path / 'sweep'}",
    ]  # fmt: skip
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    assert result.returncode == 0, result.stderr[-2000:]
    manifests = [read_manifest(path) for path in (tmp_path / "runs").glob("pretrain_text-*")]
    assert sorted(manifest.seed for manifest in manifests) == [0, 1]
    assert {manifest.status for manifest in manifests} == {"finished"}


def test_a_command_that_finds_a_phase_taken_leaves_the_record_to_who_makes_it(own_shop, audio):
    shop = own_shop()
    with RunFolder(shop.runs / audio.name).prepare().lock(), pytest.raises(FolderTaken):
        shop.train("stage=align", "modality=audio", "evaluation.forward_items=0")
    (place,) = shop.runs.glob("curriculum-*")
    assert (read_record(place).status, read_record(place).reason) == ("running", None)
