"""`modalign benchmark`: the list, a real run on miniatures of three benchmarks, and what is refused in one line."""

import importlib.util
import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from modalign.cli.main import main

SOURCES = Path(__file__).parents[1] / "data" / "sources"


def load(name):
    spec = importlib.util.spec_from_file_location(f"{name}_of_verbs", SOURCES / f"{name}.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """The shards of three miniatures, made as a person makes them."""
    layouts, media = load("test_benchmark_layouts"), load("conftest").Media
    root = tmp_path_factory.mktemp("benchmarks")
    for name in ("eval_gqa", "eval_msvd_qa", "eval_flickr30k"):
        layouts.MINIATURES[name](root / "raw" / name, media)
        making = [f"make.folder={root / 'raw' / name}", "--workers", "1", "--data", str(root / "data")]
        assert main(["shards", name, *making]) == 0
    return root / "data"


def test_without_a_run_the_benchmarks_are_listed_with_prompt_and_published_score(modalign, tmp_path):
    said = modalign("benchmark", "--data", tmp_path)
    assert said.code == 0
    row = next(line for line in said.out.splitlines() if line.startswith("nocaps "))
    assert re.fullmatch(r"nocaps +image +val +cider +115\.9 +no +Provide a one-sentence caption for.+", row)
    assert len([line for line in said.out.splitlines() if " no " in line]) == 26


def test_a_run_is_measured_from_shards_to_the_scorers_file(modalign, tiny_runs, shards, tmp_path):
    before = sorted(path.name for path in tiny_runs.instruct.iterdir())
    words = ["gqa", "msvd_qa", "eval_flickr30k", "--data", shards, "--out", tmp_path, "--tokenisation", "simple"]
    said = modalign("benchmark", tiny_runs.instruct, *words)
    assert said.code == 0, said.err
    lines = {tuple(line.split()[:3]) for line in said.out.splitlines()}
    metrics = {("gqa", "test", "exact"), ("msvd_qa", "test", "contains"), ("msvd_qa", "test", "exact")}
    assert lines >= metrics | {("flickr30k", "test", metric) for metric in ("cider", "bleu4", "rougeL")}
    assert re.search(r"^gqa +test +exact +\d+\.\d +\d+\.\d … \d+\.\d +59\.5 +2$", said.out, re.MULTILINE)
    assert "flickr30k: simple tokenisation" in said.out
    folder = tmp_path / tiny_runs.instruct.name / "benchmarks"
    result = json.loads((folder / "gqa" / "results.json").read_text())
    assert (result["items"], result["available"], result["tokenisation"]) == (2, 2, "simple")
    assert result["published"]["scores"] == {"exact": 59.5}
    predicted = json.loads((folder / "gqa" / "predictions.json").read_text())
    assert [row["questionId"] for row in predicted] == ["200", "201"]
    score = result["scores"][0]["value"]
    assert score == sum(row["prediction"] == "bus" for row in predicted) / 2
    assert sorted(path.name for path in tiny_runs.instruct.iterdir()) == before


def test_a_part_of_the_items_is_no_published_number(modalign, tiny_runs, shards, tmp_path):
    said = modalign("benchmark", tiny_runs.instruct, "gqa", "--data", shards, "--out", tmp_path, "--items", 1)
    assert "gqa: 1 of 2 items, no match for published numbers" in said.out


def test_a_run_of_align_says_captions_and_answers_nothing(modalign, tiny_runs, shards, tmp_path):
    said = modalign("benchmark", tiny_runs.image, "flickr30k", "--data", shards, "--out", tmp_path)
    assert said.code == 0, said.err
    assert "asks questions" in modalign("benchmark", tiny_runs.image, "gqa", "--data", shards).error
    assert "unknown modality 'video'" in modalign("benchmark", tiny_runs.image, "msvd_qa", "--data", shards).error


def test_what_is_missing_or_misspelt_is_told_before_the_model_is_loaded(modalign, tiny_runs, shards, monkeypatch):
    run = tiny_runs.instruct
    assert "did you mean 'vqav2'" in modalign("benchmark", run, "vqa2").error
    assert (
        "run `modalign shards eval_okvqa make.folder=…`" in modalign("benchmark", run, "okvqa", "--data", shards).error
    )
    assert "name at least one benchmark" in modalign("benchmark", run).error
    assert "at least 1, not 0" in modalign("benchmark", run, "gqa", "--items", 0).error
    monkeypatch.setattr(shutil, "which", lambda name: None)
    words = ["gqa", "--data", shards, "--tokenisation", "ptb"]
    assert "needs Java" in modalign("benchmark", run, *words).error
