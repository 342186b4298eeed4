"""Charts: round ticks, places that follow the values, nothing where there is nothing."""

import re

import pytest

from modalign.evaluation.report.charts import Bar, interval_bars, line_chart, nice_ticks, spans_decades, stacked_bars
from modalign.evaluation.report.phrases import duration, listing, points, size


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (0, 250, [0, 50, 100, 150, 200, 250]), (-3, 12, [0, 5, 10]), (2, 2, [2])],
)
def test_ticks_are_round(low, high, ticks):
    assert nice_ticks(low, high) == pytest.approx(ticks)


def test_a_falling_curve_goes_down_the_page():
    svg = line_chart({"audio": [(0, 2.0), (10, 1.0)]}, {"audio": 3}, "step", "loss")
    places = re.search(r'<polyline[^>]*points="([^"]+)"', svg)[1].split()
    (x0, y0), (x1, y1) = (map(float, place.split(",")) for place in places)
    assert x0 < x1
    assert y0 < y1
    assert "var(--c3)" in svg
    assert 'class="legend"' not in svg


def test_long_curves_are_thinned_and_keep_their_last_point():
    curve = [(float(i), float(i % 7)) for i in range(10_001)]
    svg = line_chart({"a": curve, "b": curve[:1]}, {"a": 0, "b": 1}, "step", "loss")
    assert len(re.search(r'points="([^"]+)"', svg)[1].split()) <= 402
    assert re.search(r'points="[^"]*510\.0,[^"]*"', svg)
    assert 'class="legend"' in svg


def test_constant_curves_and_single_points_have_a_place():
    assert "NaN" not in line_chart({"a": [(1, 0.0), (2, 0.0)]}, {"a": 0}, "step", "loss")
    assert "<circle" in line_chart({"a": [(1, 5.0)]}, {"a": 0}, "step", "loss")
    assert line_chart({"a": []}, {"a": 0}, "step", "loss") == ""


def test_values_over_decades_ask_for_a_logarithm():
    assert spans_decades({"a": [(0, 2.0), (1, 0.1)]})
    assert not spans_decades({"a": [(0, 2.0), (1, 0.0)]})
    assert not spans_decades({})
    svg = line_chart({"a": [(0, 2.0), (1, 0.1)]}, {"a": 0}, "step", "loss", log_y=True)
    assert {">0.1<", ">0.5<", ">1<", ">2<"} <= set(re.findall(r">[\d.]+<", svg))


def test_bars_show_interval_and_chance():
    svg = interval_bars({"audio": [Bar(0.5, 0.4, 0.6, 0.25, 0), Bar(0.4, 0.3, 0.5, None, 0, True)]})
    assert svg.count('class="chance"') == 1
    assert svg.count('class="whisker"') == 6
    assert ">50.0<" in svg
    assert interval_bars({}) == ""


def test_shares_fill_the_row():
    svg = stacked_bars({"audio": (0.25, 0.75)}, ["one", "two"])
    widths = [float(w) for w in re.findall(r'<rect [^>]*width="([\d.]+)"', svg)]
    assert widths[1] == pytest.approx(3 * widths[0], rel=0.02)
    assert "75 %" in svg


def test_numbers_are_written_for_people():
    assert [duration(s) for s in (0.41, 35, 245, 7800)] == ["0.4 s", "35 s", "4 min 05 s", "2 h 10 min"]
    assert [points(c) for c in (0.012, -0.028, -0.0001, 0.0)] == ["+1.2", "\u22122.8", "0.0", "0.0"]
    assert [size(n) for n in (12, 34_000, 5_600_000)] == ["12 B", "34.0 kB", "5.6 MB"]
    assert [listing(n) for n in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["none", "a", "a and b", "a, b and c"]
