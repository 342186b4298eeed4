"""What is said of the ratios: verdicts by their bars, and when there is none; the table, the page, the picture."""

import json
from dataclasses import replace

import pytest
import torch

from modalign.bench.drawing import draw
from modalign.bench.rows import ROWS
from modalign.bench.run import Report, judge
from modalign.bench.setting import Result
from modalign.bench.table import below, ceilings, cells, facts, unjudged, write_page
from modalign.bench.timing import Contender, Ratio, interleave, paired, spread
from modalign.errors import ModalignError

CPU = torch.device("cpu")
MACHINE = {
    "processor": "a CPU", "cores": 2, "threads": 2, "kernels": "AVX512", "gpu": None, "load": 0.1,
    "date": "2026-01-01", "python": "3.11", "versions": {"torch": "2"},
}  # fmt: skip


def result(value, noise=0.01):
    return Result(Ratio(value, value * 0.9, value * 1.1), "2 samples/s", "1 samples/s", "loss equal", 1.5, noise)


def report(*verdicts):
    return Report("standard", "wall", 5, MACHINE, {"float32": 2e11}, (), list(verdicts))


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [("align", 3.1, "target"), ("align", 2.4, "gate"), ("align", 2.2, "below"), ("frozen", 0.69, "target"),
     ("frozen", 0.74, "gate"), ("frozen", 0.80, "below"), ("stock_lightning", 1.0, "no bar")],
)  # fmt: skip
def test_a_ratio_is_judged_by_its_bar_whichever_way_it_points(name, value, word):
    assert judge(name, result(value), "standard", CPU).word == word


def test_nothing_is_judged_where_ours_differs_from_itself_by_more_than_5_percent():
    verdict = judge("align", result(0.1, noise=0.06), "standard", CPU)
    assert verdict.word.startswith("not judged")
    assert not below([verdict])
    assert "1 of 1 rows are not judged" in unjudged(report(verdict))[0]


def test_bars_do_not_hold_at_another_size():
    assert judge("align", result(0.1), "small", CPU).word == "no bar at this size"


def test_a_page_s_block_is_filled_and_the_rest_of_it_stays(tmp_path):
    page = tmp_path / "speed.md"
    page.write_text("# How fast\n\n<!-- bench -->\nold\n<!-- /bench -->\n\nand why\n")
    write_page(page, report(judge("align", result(2.4), "standard", CPU)))
    text = page.read_text()
    assert text.startswith("# How fast\n")
    assert text.endswith("and why\n")
    assert "**2.40**" in text
    assert "200 GFLOP/s" in text
    assert "old" not in text
    write_page(page, report(judge("align", result(2.5), "standard", CPU)))
    assert page.read_text().count("<!-- bench -->") == 1
    page.write_text("# no block\n")
    with pytest.raises(ModalignError, match="has no block"):
        write_page(page, report())


def test_the_report_says_what_it_was_measured_on_and_keeps_every_round():
    verdict = judge("align", result(2.4), "standard", CPU)
    assert "2 threads of 2 cores" in facts(report(verdict))[0]
    assert cells(verdict)[:2] == ["align", "2.40"]
    kept = json.loads(json.dumps(report(verdict).to_dict()))
    assert kept["rows"]["align"]["verdict"] == "gate"
    assert kept["rows"]["align"]["bar"] == {"gate": 2.3, "target": 3.0}


def test_what_a_ratio_would_be_at_the_rate_of_products_is_told_beside_its_gate():
    seconds = {"ours": [2.0, 4.0, 3.0], "peer": [5.0, 5.0, 5.0]}
    step = replace(result(1.67), work=(300_000_000_000, 500_000_000_000), seconds=seconds)
    (line,) = ceilings(report(judge("align", step, "standard", CPU), judge("floor", result(0.5), "standard", CPU)))
    # 100 of 200 GFLOP/s on both sides; five thirds of the work at half the rate
    assert line.startswith("align: ours at 0.50 of the rate of products in float32, its peer at 0.50")
    assert line.endswith("the ratio would be 3.33")
    slow = replace(step, seconds=seconds | {"peer": [3.0]})
    assert ceilings(report(judge("align", slow, "standard", CPU)))[0].endswith(
        "its peer at 0.83; if ours were at all of it, the ratio would be 2.00"
    )
    half = replace(slow, computes="bfloat16")
    assert not ceilings(report(judge("align_bf16", half, "standard", CPU))), "that rate was not measured"


def test_the_picture_is_drawn_for_rows_with_bars(tmp_path):
    verdicts = [judge(name, result(1.0), "standard", CPU) for name in ("align", "frozen", "resume")]
    draw(tmp_path / "bench.svg", report(*verdicts))
    assert "</svg>" in (tmp_path / "bench.svg").read_text()
    with pytest.raises(ModalignError, match="none of the rows has a bar"):
        draw(tmp_path / "bench.svg", report(judge("stock_lightning", result(1.0), "standard", CPU)))


def test_contenders_take_turns_and_every_other_round_goes_backwards():
    order = []
    clock = iter(range(1000)).__next__
    contenders = {
        "a": Contender(lambda: order.append("a"), lambda: order.append("set")),
        "b": Contender(lambda: order.append("b")),
    }
    seconds = interleave(contenders, 2, CPU, clock, warmups=1)
    assert order == ["set", "a", "b", "b", "set", "a", "set", "a", "b"]
    assert seconds == {"a": [1, 1], "b": [1, 1]}


def test_ratios_are_of_the_same_round_and_so_is_the_spread():
    assert paired([2, 4, 9], [1, 1, 3]) == Ratio(3, 2, 4)
    assert spread([1.0, 1.0, 1.0], [1.0, 1.1, 2.0]) == pytest.approx(1 - 1 / 1.1)


def test_every_row_names_a_file_that_is_there():
    assert {row.module for row in ROWS.values()} == {
        "steps", "options", "floor", "language", "memory", "frameworks", "loading", "waiting", "caching", "generation",
    }  # fmt: skip
