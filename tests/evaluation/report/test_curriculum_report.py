"""The page of a curriculum: its ledger first, every phase in short, gone runs named."""

import json
import re
import shutil

import pytest

from modalign.errors import ModalignError
from modalign.evaluation.report import write_curriculum_report, write_run_report


@pytest.fixture
def curriculum(curriculum_maker, tmp_path):
    return curriculum_maker(tmp_path)


def test_the_page_has_the_ledger_every_phase_and_the_time(curriculum):
    folder, runs = curriculum
    write_run_report(runs[0])
    path = write_curriculum_report(folder)
    html = path.read_text()
    assert path == folder / "report.html"
    assert not re.search(r"https?://", html)
    assert "4 phases, 8 modalities" in html
    assert "4 phases ran 1,000 optimizer steps in 3 min 32 s." in html
    for label in ("align image", "align video + point + audio", "align depth + normal + imu + fmri", "instruct"):
        assert f"<th>{label}</th>" in html
        assert f". {label}</h3>" in html
    assert f'<a href="../{runs[0].name}/report.html">' in html
    assert f'<a href="../{runs[1].name}/report.html">' not in html
    assert "<td>all</td>" in html
    assert "<video controls" in html


def test_what_was_forgotten_is_said_plainly(curriculum_maker, tmp_path):
    folder, _ = curriculum_maker(tmp_path, fall=0.03)
    html = write_curriculum_report(folder).read_text()
    assert "Something was forgotten: the largest fall of an earlier modality is 21.0 points (image, after" in html
    assert "The language model&#x27;s loss on plain text changed by +0.7 %." in html


def test_a_run_that_is_gone_is_named_and_the_rest_is_shown(curriculum):
    folder, runs = curriculum
    shutil.rmtree(runs[1])
    html = write_curriculum_report(folder).read_text()
    assert f"The run of a phase is gone: ../{runs[1].name}." in html
    assert "<th>instruct</th>" in html


def test_a_curriculum_that_has_not_begun_has_a_page(tmp_path):
    (tmp_path / "curriculum.json").write_text(json.dumps({"name": "new", "phases": [], "status": "running"}))
    html = write_curriculum_report(tmp_path).read_text()
    assert "This curriculum is <strong>running</strong>" in html


def test_a_folder_without_a_curriculum_is_an_error(tmp_path):
    with pytest.raises(ModalignError, match="holds no curriculum"):
        write_curriculum_report(tmp_path)
