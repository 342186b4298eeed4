"""The record of a curriculum."""

import pytest

from modalign.errors import ModalignError
from modalign.runs.record import CurriculumRecord, PhaseRecord, read_record, write_record


def test_a_record_reads_back_with_runs_relative_to_it(tmp_path):
    folder = tmp_path / "curricula" / "default"
    record = CurriculumRecord("default")
    for _ in range(2):
        record.add(folder, tmp_path / "runs" / "align-audio-1", "align", ("audio",), ("image",))
    record.status = "finished"
    write_record(folder, record)
    assert read_record(folder) == record
    assert record.phases == [PhaseRecord("../../runs/align-audio-1", "align", ["audio"], ["image"])]


def test_a_missing_and_a_damaged_record_are_told_apart(tmp_path):
    with pytest.raises(ModalignError, match="holds no curriculum"):
        read_record(tmp_path)
    for text in ("{", "{}", '{"name": "a", "status": "running", "phases": [{}]}', "[]"):
        (tmp_path / "curriculum.json").write_text(text)
        with pytest.raises(ModalignError, match=r"curriculum.json is damaged"):
            read_record(tmp_path)
