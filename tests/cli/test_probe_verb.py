"""`modalign probe`: tables, JSON and the report of a finished run."""

import shutil

import pytest

from modalign.evaluation.probes.findings import find_probes


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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--modality", "vidoe"], "did you mean 'video'?"),
        (["--items", "1"], "compares at least two"),
        (["--split", "tset"], "fewer than two samples in tset"),
        (["seed=3"], "cannot be changed for a run that is finished"),
    ],
)
def test_what_cannot_be_probed_is_told_in_one_line(modalign, tiny_runs, tmp_path, words, message):
    assert message in modalign("probe", tiny_runs.video, "--out", tmp_path, *words).error


def test_a_backbone_has_no_sensors_to_probe(modalign, tiny_runs):
    assert "made a backbone" in modalign("probe", tiny_runs.text).error
