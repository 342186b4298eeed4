"""`modalign bench`: one row at the tiny size with everything that it writes, and what it refuses before torch."""

import json


def test_bench_measures_a_row_and_writes_what_it_is_told(modalign, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- bench -->\n<!-- /bench -->\n")
    said = modalign(
        "bench", "head", "memory", "--size", "tiny", "--device", "cpu", "--rounds", 1, "--threads", 1, "--gate",
        "--json", tmp_path / "bench.json", "--picture", tmp_path / "bench.svg", "--page", page,
    )  # fmt: skip
    assert said.code == 0
    assert "no bar at this size" in said.out
    assert "products of matrices in the same run" in said.out
    kept = json.loads((tmp_path / "bench.json").read_text())
    assert list(kept["rows"]) == ["head", "memory"]
    assert kept["gemm"]["float32"] > 0
    assert "`head`" in page.read_text()
    assert (tmp_path / "bench.svg").is_file()


def test_rows_are_measured_with_settings_of_the_models_changed(modalign, tmp_path):
    told = modalign(
        "bench", "frozen", "packing", "model.language_model.attention=packed", "--size", "tiny", "--device", "cpu",
        "--rounds", 1, "--threads", 1, "--json", tmp_path / "bench.json",
    )  # fmt: skip
    assert told.code == 0
    assert "size tiny model.language_model.attention=packed" in told.out
    kept = json.loads((tmp_path / "bench.json").read_text())
    assert kept["changes"] == ["model.language_model.attention=packed"]
    assert "none of them padding; attention plain up to 128 tokens" in kept["rows"]["packing"]["agreement"]


def test_bench_names_what_it_does_not_know(modalign):
    assert "modell" in modalign("bench", "align", "modell.name=x").error
    assert "did you mean 'align'" in modalign("bench", "aling").error
    assert "unknown size 'huge'" in modalign("bench", "--size", "huge").error
    assert "must" in modalign("bench", "--rounds", "0").error or "1 or more" in modalign("bench", "--rounds", "0").error
    assert "cuda" in modalign("bench", "head", "--device", "cuda:99").error
