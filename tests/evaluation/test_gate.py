"""The gate: what a phase may cost, by hand, and what is written down where it cost more."""

from dataclasses import dataclass, field

import pytest

from modalign.errors import ModalignError
from modalign.evaluation.gate import GateClosed, judge, pass_gate, refuse_if_stopped
from modalign.evaluation.scores import RESULTS_FILE, Results, Score, results_bytes
from modalign.runs.manifest import Manifest, read_manifest, write_manifest
from modalign.runs.record import CurriculumRecord, find_record, record_folder


@dataclass
class Phase:
    """A phase as the planner has it."""

    name: str
    new: tuple
    seen: tuple = ()
    stage: str = "align"
    requested: bool = True
    measuring: dict = field(default_factory=lambda: {"num_items": 8})

    @property
    def identity(self):
        return self.name


@pytest.fixture
def run(tmp_path):
    """Make a finished run with these scores; `metric` and `status` for other runs."""

    def make(name, new, metric="attribute_accuracy", status="finished", **values):
        folder = tmp_path / name
        folder.mkdir()
        write_manifest(folder, Manifest(name, name, "align", {"new": [*new], "seen": []}, status, spec={"new": [*new]}))
        scores = tuple(Score(m, "caption", "test", metric, v, v, v, 0.2, 9) for m, v in values.items())
        (folder / RESULTS_FILE).write_bytes(results_bytes(Results(name, 1, scores)))
        return folder, tuple(new)

    return make


@pytest.fixture
def chain(run):
    return [
        run("a", ["image"], image=0.90),
        run("b", ["audio"], image=0.87, audio=0.80),
        run("c", ["imu"], image=0.89, audio=0.79, imu=0.7),
    ]


def phases():
    return [Phase("a", ("image",)), Phase("b", ("audio",), ("image",)), Phase("c", ("imu",), ("image", "audio"))]


def test_a_phase_is_judged_by_the_largest_fall_after_it_and_not_by_earlier_ones(chain):
    assert judge(2.0, chain[:1]).worst is None
    second = judge(2.0, chain[:2])
    assert (second.worst.modality, round(100 * second.worst.change, 6), second.kept) == ("image", -3.0, False)
    assert judge(2.0, chain).kept  # image is back within the limit
    assert judge(3.0, chain[:2]).kept  # a fall of just the limit is allowed
    assert not judge(0.0, chain).kept


def test_the_line_says_what_fell_where_how_far_and_how_to_go_on(chain):
    words = judge(2.5, chain[:2]).words
    assert "stops after b: image is 3.0 points below" in words
    assert "curriculum.gate.max_forgetting=2.5" in words
    assert "\n" not in words


def test_the_manifest_and_the_record_say_why_it_stopped(chain, tmp_path):
    place, record = tmp_path / "curriculum-x", CurriculumRecord("x")
    assert pass_gate(2.0, chain[:1], place, record).kept
    assert find_record(place) is None
    verdict = pass_gate(2.0, chain[:2], place, record)
    assert read_manifest(chain[1][0]).extra["gate"] == pytest.approx(
        {"max_forgetting": 2.0, "kept": False, "modality": "image", "change": -3.0}
    )
    assert read_manifest(chain[1][0]).status == "finished"
    found = find_record(place)
    assert (found.status, found.reason) == ("stopped", verdict.words)


def test_the_same_command_says_the_same_and_another_limit_goes_on(chain, tmp_path):
    told = []
    for _ in range(2):
        with pytest.raises(GateClosed) as closed:
            refuse_if_stopped(2.0, tmp_path, "x", phases())
        told.append((str(closed.value), closed.value.exit_code))
    assert told[0] == told[1]
    assert told[0][1] == 3
    record = find_record(record_folder(tmp_path, "x", ["a", "b", "c"]))
    assert [phase.run for phase in record.phases] == ["../a", "../b"]
    refuse_if_stopped(3.0, tmp_path, "x", phases())
    assert read_manifest(tmp_path / "b").extra["gate"]["kept"]
    refuse_if_stopped(None, tmp_path, "x", phases())


def test_only_the_first_of_several_processes_writes(chain, tmp_path):
    with pytest.raises(GateClosed):
        refuse_if_stopped(2.0, tmp_path, "x", phases(), first=False)
    assert "gate" not in read_manifest(tmp_path / "b").extra
    assert find_record(record_folder(tmp_path, "x", ["a", "b", "c"])) is None


def test_an_unfinished_phase_and_those_after_it_are_not_judged(run, tmp_path):
    run("a", ["image"], image=0.90)
    run("b", ["audio"], status="interrupted", image=0.5, audio=0.80)
    run("c", ["imu"], image=0.1, audio=0.1, imu=0.1)
    refuse_if_stopped(2.0, tmp_path, "x", phases())
    judged = [name for name in "abc" if "gate" in read_manifest(tmp_path / name).extra]
    assert judged == ["a"]


def test_captions_without_attributes_are_judged_by_rouge(run):
    chain = [run("a", ["image"], "rougeL", image=0.6), run("b", ["audio"], "rougeL", image=0.5, audio=0.4)]
    assert judge(2.0, chain).worst.change == pytest.approx(-0.1)


def test_a_gate_with_nothing_to_compare_says_so(run, caplog):
    chain = [run("a", ["image"], "cider", image=6.0), run("b", ["audio"], "cider", image=1.0, audio=1.0)]
    assert judge(2.0, chain).kept
    assert "b: no caption score on test to compare, so curriculum.gate judges nothing" in caplog.text


def test_a_gate_that_cannot_judge_is_not_open(chain, tmp_path):
    (tmp_path / "a" / RESULTS_FILE).unlink()
    with pytest.raises(ModalignError, match=r"cannot be judged after b: .*a has no results.json; `modalign evaluate"):
        judge(2.0, chain[:2])
    with pytest.raises(ModalignError, match="cannot be judged"):
        refuse_if_stopped(2.0, tmp_path, "x", phases())
    assert "gate" not in read_manifest(tmp_path / "b").extra
