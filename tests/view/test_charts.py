"""Charts: where marks stand and points are drawn, worked out by hand; what is not there is not drawn."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as tree

import numpy as np
import pytest

from dataengine.view.axes import Axis, Plot, axis_of
from dataengine.view.charts import Series, bars, line_chart, scatter
from dataengine.view.markup import Markup


def parsed(markup: Markup) -> tree.Element:
    return tree.fromstring(markup)


def paths(markup: Markup) -> list[str]:
    return [found.attrib["d"] for found in parsed(markup).iter("path")]


@pytest.mark.parametrize(
    ("low", "high", "marks"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]), (-3, 17, [0, 5, 10, 15]), (0.013, 0.021, [0.014, 0.016, 0.018, 0.02]), (-1e6, 0, [-1e6, -8e5, -6e5, -4e5, -2e5, 0])],
)
def test_marks_stand_at_round_numbers(low: float, high: float, marks: list[float]) -> None:
    assert Axis(low, high).marks == pytest.approx(marks)


def test_marks_of_powers_of_ten() -> None:
    assert Axis(0.03, 60, True).marks == [0.1, 1, 10]
    assert Axis(0.3, 6, True).marks == pytest.approx([0.5, 1, 2, 5])


def test_a_value_halfway_is_drawn_halfway() -> None:
    plot = Plot(Axis(0, 10), Axis(1, 100, True), 162, 146)  # inside the frame 100 px across and 100 px up
    assert plot.across(2.5) == pytest.approx(52 + 25)
    assert plot.up(10) == pytest.approx(8 + 50)
    assert plot.up(1) > plot.up(100)


def test_an_axis_of_one_value_or_none_has_a_span() -> None:
    assert axis_of(np.array([3.0])) == Axis(1.5, 4.5)
    assert axis_of(np.array([math.nan])) == Axis(0.0, 1.0)
    assert axis_of(np.array([0.0, 10.0, -5.0]), log=True) == Axis(10 / 1.1, 11.0, True)


def test_a_curve_breaks_where_a_number_is_missing() -> None:
    (path,) = paths(line_chart([Series("a", [0, 1, 2, 3, 4], [1, 2, math.nan, 1, 2])]))
    assert path.count("M") == 2
    assert path.count("L") == 2


def test_a_band_reaches_from_low_to_high() -> None:
    drawn = line_chart([Series("a", [0.0, 1.0], [0.0, 0.0], [-1.0, -1.0], [1.0, 1.0])], width=162, height=146)
    band = paths(drawn)[0]
    ys = [float(pair.split()[1]) for pair in re.split("[MLZ]", band) if pair]
    assert ys == pytest.approx([8 + 100 * 0.08 / 2.16] * 2 + [108 - 100 * 0.08 / 2.16] * 2, abs=0.06)  # ±1 in an axis from -1.08 to 1.08


def test_of_many_dots_every_nth_is_drawn() -> None:
    assert paths(scatter(np.arange(5000), np.arange(5000)))[0].count("M") == 1000
    assert paths(scatter([1.0, math.nan, 3.0], [1.0, 2.0, 3.0]))[0].count("M") == 2


def test_bars_say_their_value_and_interval_and_leave_out_what_is_missing() -> None:
    drawn = parsed(bars(["x", "y"], ["idm", "flow"], [[0.8, 0.4], [math.nan, -0.5]], [[0.7, 0.3], [math.nan, -0.6]], [[0.9, 0.5], [math.nan, -0.4]]))
    titles = [found.text for found in drawn.iter("title") if found.text and ":" in found.text]
    assert titles == ["x, idm: 0.800 (0.700 … 0.900)", "x, flow: 0.400 (0.300 … 0.500)", "y, flow: −0.500 (−0.600 … −0.400)"]


def test_bars_beyond_the_range_end_at_its_edge() -> None:
    drawn = parsed(bars(["x"], ["bad"], [[-40.0]], y_range=(-0.5, 1.0), height=46 + 150))
    (bar,) = [found for found in drawn.iter("rect") if found.attrib.get("class") != "frame"]
    assert float(bar.attrib["height"]) == pytest.approx(50)  # from 0 to -0.5 of a frame of 150 px for 1.5


def test_names_are_escaped() -> None:
    drawn = line_chart([Series("a<b", [0, 1], [0, 1])], title="x & y")
    assert "a&lt;b" in drawn
    assert "x &amp; y" in drawn
