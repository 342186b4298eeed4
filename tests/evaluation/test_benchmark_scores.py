"""Benchmarks' scores worked by hand, and the files that the official scorers read."""

import csv
import io
import json

import pytest

from modalign.data.benchmark import Benchmark, Predictions
from modalign.errors import ModalignError
from modalign.evaluation.benchmark_scores import Answered, answered, benchmark_scores, worded
from modalign.evaluation.metrics import caption_scores
from modalign.evaluation.predictions import prediction_files

JSON = {"format": "json", "columns": {"id": "key", "answer": "text"}}


def benchmark(*metrics, **more):
    fields = {"split": "test", "prompt": "{question}", "predictions": JSON, "scorer": "http://x", "published": {}}
    return Benchmark.model_validate(fields | {"metrics": metrics} | more)


def said(text, right, options=(), annotators=(), **kept):
    return Answered("k", "q?", text, (right,), tuple(annotators), tuple(options), kept)


def only(settings, items):
    (score,) = benchmark_scores(settings, items, "eval_x", "image")
    return score


def test_vqa_accuracy_is_the_mean_over_questions():
    ten = ["bus"] * 3 + [f"other {n}" for n in range(7)]
    score = only(benchmark("vqa"), [said("A bus.", "bus", annotators=ten), said("Yes", "yes", annotators=["yes"] * 10)])
    assert score.value == pytest.approx((0.9 + 1.0) / 2)
    assert (score.metric, score.task, score.n, score.chance) == ("vqa", "eval_x", 2, None)


def test_letters_are_scored_against_the_options_and_their_chance():
    options = ["red", "blue"]
    score = only(benchmark("letter"), [said("B", "B", options), said("red", "B", options), said("what", "A", options)])
    assert score.value == pytest.approx(1 / 3)
    assert score.chance == 0.5
    assert score.low < 1 / 3 < score.high


def test_a_question_with_several_passes_is_right_only_if_all_are():
    """MMBench's circular evaluation: two questions of two passes each; chance is a half of a half."""
    options = ["red", "blue"]
    items = [
        said("A", "A", options, unit="1"), said("B", "B", options, unit="1"),
        said("A", "A", options, unit="2"), said("A", "B", options, unit="2"),
    ]  # fmt: skip
    score = only(benchmark("letter", unit="unit"), items)
    assert (score.value, score.n, score.chance) == (0.5, 2, 0.25)


def test_mme_gives_points_for_questions_and_for_whole_pictures():
    """Task a: 3 of 4 answers right, one of two pictures whole: 75 + 50. Task b: all: 200. Task c is not counted."""
    pairs = {("a", "1"): "yn", ("a", "2"): "yy", ("b", "1"): "yn", ("c", "1"): "nn"}
    items = [
        said({"y": "Yes.", "n": "No"}[given], right, task=task, image=image)
        for (task, image), two in pairs.items()
        for given, right in zip(two, ("Yes", "No"), strict=True)
    ]
    settings = benchmark("mme", group="task", unit="image", classes=["a", "b"])
    score = only(settings, items)
    assert score.value == pytest.approx(75 + 50 + 200)
    assert score.chance == 150
    assert {task: part.value for task, part in score.detail.items()} == {"a": 0.75, "b": 1.0}
    assert score.low <= score.value <= score.high
    with pytest.raises(ModalignError, match="none of its tasks"):
        only(settings, items[-2:])


def test_classes_are_those_of_the_list_or_of_the_items():
    items = [said("a chair", "chair"), said("a table and a chair", "table"), said("It's a lamp", "lamp")]
    score = only(benchmark("class"), items)
    assert score.value == pytest.approx(2 / 3)
    assert score.chance == pytest.approx(1 / 3)
    listed = benchmark("class", classes={"seat": ["chair"], "others": ["table", "lamp"]})
    assert only(listed, items).value == pytest.approx(2 / 3)


def test_exact_and_contained_answers_and_their_groups():
    items = [said("Guitar.", "guitar", kind="a"), said("a guitar", "guitar", kind="a"), said("", "two", kind="b")]
    exact, contained = benchmark_scores(benchmark("exact", "contains", group="kind"), items, "eval_x", "video")
    assert (exact.value, contained.value) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert exact.chance == pytest.approx(2 / 3)
    assert {kind: (part.value, part.n) for kind, part in contained.detail.items()} == {"a": (1.0, 2), "b": (0.0, 1)}


def test_captions_keep_the_order_of_the_metrics_and_their_note():
    items = [said(text, text) for text in ("a red cube on the left", "two blue balls at the right")]
    scores = benchmark_scores(benchmark("cider", "bleu4", "rougeL"), items, "eval_x", "image")
    assert [(score.metric, round(score.value, 6)) for score in scores] == [("cider", 10), ("bleu4", 1), ("rougeL", 1)]
    assert all("in place of COCO's" in score.note for score in scores)


def test_bleu_and_rouge_agree_with_examples_worked_by_hand():
    """BLEU-4 of a b c d e against a b c d f: precisions 4/5, 3/4, 2/3, 1/2. ROUGE-L: recall and precision 4/5.

    And Lin 2004's sentence: "police kill the gunman" against "police killed the gunman" has the common part
    police the gunman, 3 of 4 words on both sides.
    """
    found = {s.metric: s.value for s in caption_scores(["a b c d e"], ["a b c d f"], "image", "test")}
    assert found["bleu4"] == pytest.approx((4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25, abs=1e-6)
    assert found["rougeL"] == pytest.approx(0.8)
    lin = caption_scores(["police kill the gunman"], ["police killed the gunman"], "image", "test")
    assert {s.metric: s.value for s in lin}["rougeL"] == pytest.approx(0.75)


def test_a_short_candidate_pays_the_brevity_penalty():
    """Papineni et al. 2002: exp(1 - r/c), here with r = 8 and c = 5 and every n-gram right."""
    found = caption_scores(["a b c d e"], ["a b c d e f g h"], "image", "test")
    assert {s.metric: s.value for s in found}["bleu4"] == pytest.approx(2.718281828 ** (1 - 8 / 5), abs=1e-6)


def test_cider_agrees_with_a_count_by_hand():
    """Vedantam et al. 2015 with CIDEr-D's penalty: two items of one word, of which each has its own: idf = ln 2.

    Of n = 1 … 4 only the single words exist, so that a right caption gives 10 x (1 + 0 + 0 + 0) / 4.
    """
    scores = caption_scores(["cat", "dog"], ["cat", "dog"], "image", "test")
    assert scores[0].value == pytest.approx(2.5)
    assert caption_scores(["dog", "cat"], ["cat", "dog"], "image", "test")[0].value == 0


def test_a_prompt_is_filled_with_question_options_and_classes():
    record = {"conversation": [{"question": "Which?", "answer": "A", "options": ["red", "blue"]}]}
    asked = benchmark("letter", prompt="{question} {options} Answer with the letter.")
    assert worded(asked, record) == "Which? A. red B. blue Answer with the letter."
    scenes = benchmark("class", prompt="{classes} Which?", classes=["living_room", "lab"])
    assert worded(scenes, {"conversation": [{"question": "", "answer": "lab"}]}) == "living room, lab Which?"
    assert answered("k", {"captions": ["a", "b"]}, "q", "t").references == ("a", "b")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"prompt": "{picture}"}, "prompt names {picture}; known: classes, options, question"),
        ({"metrics": ["bleu"]}, "metric 'bleu' is unknown"),
        ({"metrics": []}, "at least 1"),
    ],
)
def test_a_wrong_section_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        benchmark("exact", **wrong)


def predicted(items, **declared):
    return prediction_files(Predictions.model_validate(declared), items)


ITEMS = [
    Answered("k1", "q?", "B. blue", ("B",), (), ("red", "blue"), {"qid": 7, "film": "f", "task": "x"}),
    Answered("k2", "q?", "the two\tcats", ("A",), (), ("one", "four"), {"qid": 8, "film": "g", "task": "y"}),
]


def test_json_keeps_the_type_of_an_id_and_normalises_where_it_is_asked_to():
    files = predicted(ITEMS, format="json", columns={"question_id": "qid", "answer": "answer"})
    assert json.loads(files["predictions.json"]) == [
        {"question_id": 7, "answer": "b blue"},
        {"question_id": 8, "answer": "2 cats"},
    ]


def test_lines_mappings_and_tables_have_the_scorers_names():
    lines = predicted(ITEMS, format="jsonl", columns={"question_id": "qid", "prediction": "letter"})
    assert [json.loads(line) for line in lines["predictions.jsonl"].splitlines()] == [
        {"question_id": 7, "prediction": "B"},
        {"question_id": 8, "prediction": None},
    ]
    columns = {"key": "{film}_{qid}", "prediction": "number_chosen", "answer": "right"}
    nested = predicted(ITEMS, format="map", columns=columns)
    assert json.loads(nested["predictions.json"])["f_7"] == {"prediction": 1, "answer": 1}
    flat = predicted(ITEMS, format="map", inside="results", columns={"key": "qid", "value": "number_chosen"})
    assert json.loads(flat["predictions.json"]) == {"results": {"7": 1, "8": None}}
    table = predicted(ITEMS, format="csv", columns={"file_name": "film", "caption_predicted": "text"})
    rows = list(csv.DictReader(io.StringIO(table["predictions.csv"].decode())))
    assert rows[1] == {"file_name": "g", "caption_predicted": "the two\tcats"}


def test_tables_by_task_have_no_header_and_no_tab_within_a_cell():
    columns = {"image": "film", "question": "question", "gt": "reference", "said": "text"}
    files = predicted(ITEMS, format="tsv", by="task", header=False, columns=columns)
    assert files == {"predictions/x.txt": b"f\tq?\tB\tB. blue\n", "predictions/y.txt": b"g\tq?\tA\tthe two cats\n"}


def test_an_unknown_column_names_the_nearest():
    with pytest.raises(ModalignError, match="did you mean 'qid'"):
        predicted(ITEMS, format="json", columns={"question_id": "qids"})
