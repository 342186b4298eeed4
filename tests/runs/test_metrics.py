"""The metrics table of a run."""

import math
import os
import signal

import pytest

from modalign.errors import ModalignError
from modalign.runs.metrics import Metric, MetricLog


def test_rows_are_long_and_exact(tmp_path):
    log = MetricLog(tmp_path / "metrics.csv")
    log.append(1, {"train/loss": 0.1 + 0.2, "train/loss/audio": 2})
    log.append(2, {"train/loss": math.nan})
    assert (tmp_path / "metrics.csv").read_text().splitlines()[:2] == ["step,name,value", f"1,train/loss,{0.1 + 0.2!r}"]
    rows = log.read()
    assert rows[:2] == [Metric(1, "train/loss", 0.1 + 0.2), Metric(1, "train/loss/audio", 2.0)]
    assert math.isnan(rows[2].value)


def test_rows_are_there_for_others_at_once(tmp_path):
    log = MetricLog(tmp_path / "metrics.csv")
    log.append(1, {"a": 1.0})
    assert MetricLog(log.path).read() == [Metric(1, "a", 1.0)]


def test_rows_beyond_the_resumed_step_are_cut_and_writing_goes_on(tmp_path):
    log = MetricLog(tmp_path / "metrics.csv")
    for step in range(1, 6):
        log.append(step, {"a": float(step)})
    assert log.cut_after(3) == 2
    log.append(4, {"a": 40.0})
    assert [(row.step, row.value) for row in log.read()] == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 40.0)]
    assert log.path.read_text().count("step,name,value") == 1


def test_nothing_is_cut_where_there_is_no_file(tmp_path):
    log = MetricLog(tmp_path / "metrics.csv")
    assert log.cut_after(10) == 0
    assert log.read() == []
    assert not log.path.exists()


@pytest.mark.parametrize("torn", ["7,train/lo", "7", "7,a,0.12"])
def test_a_row_that_a_kill_tore_is_dropped(tmp_path, torn):
    log = MetricLog(tmp_path / "metrics.csv")
    log.append(1, {"a": 1.0})
    log.close()
    with open(log.path, "a") as file:
        file.write(torn)
    assert log.read() == [Metric(1, "a", 1.0)]
    log.append(2, {"a": 2.0})
    assert log.read() == [Metric(1, "a", 1.0), Metric(2, "a", 2.0)]


def test_a_killed_writer_loses_no_row_that_it_appended(tmp_path):
    path = tmp_path / "metrics.csv"
    child = os.fork()
    if child == 0:
        log = MetricLog(path)
        for step in range(100):
            log.append(step, {"a": float(step)})
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert [row.step for row in MetricLog(path).read()] == list(range(100))


def test_a_damaged_row_within_names_its_line(tmp_path):
    log = MetricLog(tmp_path / "metrics.csv")
    log.append(1, {"a": 1.0})
    log.path.write_text(log.path.read_text() + "two,a,2.0\n")
    with pytest.raises(ModalignError, match="line 3 is damaged"):
        log.read()


def test_a_full_disk_is_one_line():
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    log = MetricLog("/dev/full")
    with pytest.raises(ModalignError, match="disk full while writing /dev/full"):
        log.append(1, {"a": 1.0})
    with pytest.raises(ModalignError, match="disk full"):
        log.close()
    log.close()


def test_sync_reaches_the_disk_and_needs_no_open_file(tmp_path):
    log = MetricLog(tmp_path / "metrics.csv")
    log.sync()
    log.append(1, {"a": 1.0})
    log.sync()
    assert len(log.read()) == 1
