"""results.json: what is written is what is read; what is wrong in it is named."""

import json
import subprocess
import sys

import pytest

from modalign.errors import ModalignError
from modalign.evaluation.attributes import attribute_accuracy
from modalign.evaluation.metrics import exact_match
from modalign.evaluation.scores import (
    Detail,
    Results,
    Score,
    ShownSample,
    TextLoss,
    read_results,
    results_bytes,
    results_from_dict,
)

SCORE = Score(
    "image", "caption", "test", "attribute_accuracy", 0.9, 0.88, 0.92, 0.25, 300, {"colour": Detail(0.9, 0.25, 300)}
)
SAMPLE = ShownSample("image", "test", "000001", {"image": "samples/a.jpg"}, "a red cube", "a red cube")
DISTANCE = ((0.0, 0.2), (0.2, 0.0))
RESULTS = Results(
    "align-image-00000000", 250, (SCORE,), TextLoss(0.1, 4000), {"image": (0.5, 0.5)}, DISTANCE, (SAMPLE,)
)


def test_results_survive_the_way_through_their_file(tmp_path):
    (tmp_path / "results.json").write_bytes(results_bytes(RESULTS))
    assert read_results(tmp_path) == RESULTS
    assert read_results(tmp_path / "results.json") == RESULTS


def test_a_score_is_found_by_what_it_measures():
    assert RESULTS.find("image", "caption", "test", "attribute_accuracy") is SCORE
    assert RESULTS.find("image", "caption", "test_unseen", "attribute_accuracy") is None


def test_minimal_results_are_enough():
    assert results_from_dict({"run": "a", "step": 0}) == Results("a", 0)


def test_a_number_that_is_not_finite_is_refused_by_name():
    broken = Results("a", 1, (Score("audio", "caption", "test", "cider", float("nan"), 0, 0, None, 3),))
    with pytest.raises(ModalignError, match="score cider of audio"):
        results_bytes(broken)
    with pytest.raises(ModalignError, match="not finite"):
        results_bytes(Results("a", 1, text_loss=TextLoss(float("inf"), 3)))


def test_wrong_files_are_told_in_one_line(tmp_path):
    with pytest.raises(ModalignError, match="does not exist"):
        read_results(tmp_path / "results.json")
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(ModalignError, match="cannot be read as JSON"):
        read_results(tmp_path)
    row = json.loads(results_bytes(RESULTS))
    row["scores"][0]["valeu"] = 1
    with pytest.raises(ModalignError, match="did you mean 'value'"):
        results_from_dict(row)
    del row["scores"][0]["valeu"], row["scores"][0]["value"]
    with pytest.raises(ModalignError, match="a Score lacks 'value'"):
        results_from_dict(row)


def test_scores_and_ledger_are_read_without_torch():
    code = "import sys, modalign.evaluation.scores, modalign.evaluation.ledger_table; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_score_keeps_of_every_item_how_much_was_right(tmp_path):
    kinds = {"shape": ["cube", "ball"], "colour": ["red", "blue"]}
    truths = [{"shape": "cube", "colour": "red"}, {"shape": "ball"}, {"shape": "ball", "colour": "blue"}]
    score = attribute_accuracy(["a red cube", "a cube", "a red ball"], truths, kinds, "image", "test")
    assert score.hits == "2/2 0/1 1/2"
    answers = exact_match(["red", "two"], ["Red.", "three"], "image", "test")
    assert answers.shares() == (1.0, 0.0)
    (tmp_path / "results.json").write_bytes(results_bytes(Results("run", 1, (score, answers))))
    assert [s.shares() for s in read_results(tmp_path).scores] == [(1.0, 0.0, 0.5), (1.0, 0.0)]


def test_a_score_that_is_no_number_is_told_in_one_line(tmp_path):
    data = json.loads(results_bytes(RESULTS))
    data["scores"][0]["value"] = "abc"
    (tmp_path / "results.json").write_text(json.dumps(data))
    with pytest.raises(ModalignError, match="value is 'abc', no number; evaluate the run again"):
        read_results(tmp_path)
