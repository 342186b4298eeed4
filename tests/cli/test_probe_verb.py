"""`modalign probe`: tables, JSON and the report of a finished run."""

import shutil

import pytest

from modalign.cli.probe import tell
from modalign.evaluation.probes.findings import InputUse, ModalityProbe, Probes, find_probes


@pytest.fixture
def copy(tiny_runs, tmp_path):
    shutil.copytree(tiny_runs.runs, tmp_path / "runs")
    return type(tiny_runs)(tmp_path / "runs", tiny_runs.data)


def test_a_run_is_probed_into_tables_json_and_its_report(modalign, copy):
    said = modalign("probe", copy.video, "--items", 6, "--candidates", 4)
    assert said.code == 0, said.err
    for words in ("caption found", "router", "entropy", "distance between the experts of upm", "nearest words",
                  "gradient of", "projectors.upm.experts"):  # fmt: skip
        assert words in said.out
    found = find_probes(copy.video)
    assert list(found.modalities) == ["image", "video"]
    video = found.modalities["video"]
    assert (video.items, video.retrieval.candidates, len(video.routing.load)) == (6, 4, 3)
    assert video.gradients["projectors.upm.ports.video"] > 0
    assert video.gradients["projectors.upm.ports.image"] == 0.0
    html = (copy.video / "report.html").read_text()
    assert "<h2>Is each sensor used?</h2>" in html
    assert "Nearest words to the soft tokens" in html


def test_one_modality_of_a_run_of_instruction_goes_elsewhere_on_request(modalign, tiny_runs, tmp_path):
    before = sorted(path.name for path in tiny_runs.instruct.iterdir())
    words = ("--items", 4, "--modality", "image", "--split", "test", "--out", tmp_path)
    said = modalign("probe", tiny_runs.instruct, *words)
    assert said.code == 0, said.err
    assert list(find_probes(tmp_path / tiny_runs.instruct.name).modalities) == ["image"]
    assert sorted(path.name for path in tiny_runs.instruct.iterdir()) == before


def test_a_probe_of_the_training_is_told_with_its_step_and_without_gradients(capsys):
    use = InputUse(1.0, 2.0, 2.0, 1.0, 0.5, 1.5)
    now = ModalityProbe(300, 8, use, gradients={"llm": 0.5, "projectors.upm.experts": 2.0})
    tell(Probes("a-run", "val", {"image": ModalityProbe(200, 64, use), "video": now}))
    told = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert told[0][:4] == ["modality", "after", "step", "items"]
    assert [row[:3] for row in told[1:3]] == [["image", "200", "64"], ["video", "300", "8"]]
    assert told[4:] == [["gradient", "of", "video"], ["llm", "5.00e-01"], ["projectors.upm.experts", "2.00e+00"]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--modality", "vidoe"], "did you mean 'video'?"),
        (["--items", "1"], "compares at least two"),
        (["--split", "tset"], "unknown split 'tset' in recipes world_image, world_video: did you mean 'test'?"),
        (["seed=3"], "cannot be changed for a run that is finished"),
    ],
)
def test_what_cannot_be_probed_is_told_in_one_line(modalign, tiny_runs, tmp_path, words, message):
    assert message in modalign("probe", tiny_runs.video, "--out", tmp_path, *words).error


def test_a_backbone_has_no_sensors_to_probe(modalign, tiny_runs):
    assert "made a backbone" in modalign("probe", tiny_runs.text).error
