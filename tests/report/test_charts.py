"""The drawings: coordinates and fronts worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_report import gate

from compressor.gates.metrics import METRICS
from compressor.report.charts import curve, interval, labels, marker, scatter
from compressor.report.charts.labels import Box
from compressor.report.charts.scales import Scale
from compressor.report.charts.scatter import Point
from compressor.report.charts.trade_off import front
from compressor.tasks import TASKS


def test_the_front_by_hand():
    # Cheap and bad, dear and good, and in between one that both in turn beat in nothing; then what is beaten.
    points = [(1, 0.7), (4, 0.9), (2, 0.8), (2, 0.79), (3, 0.8), (5, 0.9)]
    assert front(points) == [True, True, True, False, False, False]
    assert front([(1, 0.5), (1, 0.5)]) == [True, True], "equals are on it together"
    assert front([]) == []


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12))
def test_everything_is_on_the_front_or_beaten_by_what_is_on_it(points: list[tuple[int, int]]):
    best = front(points)
    assert any(best)
    for point, on_front in zip(points, best, strict=True):
        beaten = any(x <= point[0] and y >= point[1] and (x, y) != point for x, y in points)
        assert beaten != on_front


def test_more_of_every_tasks_main_metric_is_better():
    assert all(METRICS[task.METRICS[0]].kind == "quality" for task in TASKS.values())


def test_scales_by_hand():
    even = Scale(0.0, 10.0, 100.0, 200.0)
    assert (even.at(0), even.at(2.5), even.at(10)) == (100, 125, 200)
    log = Scale(1.0, 100.0, 0.0, 200.0, log=True)
    assert [round(log.at(value), 6) for value in (1, 10, 100)] == [0, 100, 200]
    up = Scale.around([2.0, 4.0], 292.0, 30.0, margin=0.5)
    assert (up.low, up.high) == (1.0, 5.0)
    assert up.at(3.0) == pytest.approx(161.0), "the middle"
    one = Scale.around([8.0], 0.0, 100.0, log=True)
    assert one.at(8.0) == pytest.approx(50.0), "a single value stands in the middle"


def test_ticks_are_round():
    def ticks(*limits: float, log: bool = False) -> list[str]:
        return [written for _, written in Scale(*limits, 0, 1, log=log).ticks()]

    assert ticks(0.0, 10.0) == ["0", "2", "4", "6", "8", "10"]
    assert ticks(0.781, 0.826) == ["0.79", "0.80", "0.81", "0.82"]
    assert ticks(-1.0, 0.6) == ["-1.0", "-0.5", "0.0", "0.5"]
    assert ticks(1.5, 20.0, log=True) == ["2", "5", "10", "20"]
    assert ticks(0.05, 20_000.0, log=True) == ["0.1", "1", "10", "100", "1000", "10000"]
    assert ticks(30.0, 40.0, log=True) == ["30", "32", "34", "36", "38", "40"]
    assert [value for value, _ in Scale(0.781, 0.826, 0, 1).ticks()] == pytest.approx([0.79, 0.8, 0.81, 0.82])


numbers = st.floats(1e-6, 1e9)


@given(st.lists(numbers, min_size=1, max_size=20), st.booleans())
def test_whatever_is_drawn_is_within_the_axes(values: list[float], log: bool):
    scale = Scale.around(values, 50.0, 450.0, log=log)
    assert all(50 <= scale.at(value) <= 450 for value in values)
    assert all(50 - 1e-6 <= scale.at(tick) <= 450 + 1e-6 for tick, _ in scale.ticks())
    assert len(scale.ticks()) <= 13


def points() -> list[Point]:
    """A dear one that is better, a cheap one with bounds that are wider than both, and one that is beaten."""
    return [
        Point("dear", (100.0, 100.0, 100.0), (0.9, 0.9, 0.9), True, 0, "dear: told"),
        Point("cheap", (1.0, None, None), (0.8, 0.78, 0.91), True, 1, "cheap: told"),
        Point("beaten", (10.0, 9.0, 11.0), (0.79, None, None), False, 2, "beaten: told"),
    ]


def test_a_scatter_by_hand():
    drawing = scatter.draw(points(), "x", "accuracy against latency", "p50 latency, ms", "accuracy")
    # x: 1 to 100 is two decades, with 8 % of them free on either side, over 56 to 468.
    left, right = 56 + 412 * 0.08 / 1.16, 56 + 412 * 1.08 / 1.16
    middle = (left + right) / 2
    # y: 0.78 to 0.91, the same way, from 292 up to 30.
    height = lambda value: 292 - 262 * (0.08 + (value - 0.78) / 0.13) / 1.16  # noqa: E731
    circle, square, diamond = (group[1] for group in drawing.findall("g") if group.find("title") is not None)
    assert (circle.get("cx"), circle.get("cy")) == (f"{right:.1f}", f"{height(0.9):.1f}")
    assert square.get("d").startswith(f"M{left - 5:.1f} {height(0.8) - 5:.1f}L")
    assert diamond.get("d").startswith(f"M{middle:.1f} {height(0.79) - 6.5:.1f}L")
    assert [shape.get("fill") for shape in (circle, square, diamond)] == ["currentColor", "currentColor", "none"]
    # The front: from the bottom up to the cheap one, level to the dear one, up, and level to the edge.
    path = drawing.find("path[@class='front']").get("d")
    assert path == f"M{left:.1f} 292.0V{height(0.8):.1f}H{right:.1f}V{height(0.9):.1f}H468.0"
    dear, cheap, beaten = (group for group in drawing.findall("g") if "bars" in group.get("class", ""))
    assert len(dear) == 0, "what is exact has no bars"
    upright, *caps = cheap
    assert (upright.get("y1"), upright.get("y2")) == (f"{height(0.78):.1f}", f"{height(0.91):.1f}")
    assert upright.get("x1") == upright.get("x2") == f"{left:.1f}" and len(caps) == 2
    assert float(beaten[0].get("x2")) - float(beaten[0].get("x1")) == pytest.approx(
        (right - left) * math.log(11 / 9) / math.log(100), abs=0.2
    )
    assert drawing.findtext("title") == "accuracy against latency"
    assert drawing.findtext("desc") == "dear: told; cheap: told; beaten: told."
    assert drawing.get("aria-labelledby") == "x-title x-desc" and drawing.get("role") == "img"


def test_series_differ_in_shape_or_colour_each_from_each():
    looks = set()
    for series in range(len(marker.SHAPES) * marker.COLOURS):
        shape = marker.marker(series, 0.0, 0.0, False)
        looks.add((shape.tag, shape.get("d"), shape.get("class")))
    assert len(looks) == len(marker.SHAPES) * marker.COLOURS


def test_a_gates_interval_by_hand():
    # At least 0.8 was asked; 0.85 to 0.95 was seen. The range of 0.15 and 15 % of it on either side, over 10 to 230.
    drawing = interval.draw(gate(), "g", "told", "0.8000")
    at = lambda value: 10 + 220 * (value - 0.8 + 0.0225) / 0.195  # noqa: E731
    limit = drawing.find("line[@class='limit']")
    assert limit.get("x1") == limit.get("x2") == f"{at(0.8):.1f}"
    allowed = drawing.find("rect")
    assert (allowed.get("x"), allowed.get("width")) == (f"{at(0.8):.1f}", f"{240 - at(0.8):.1f}")
    bar = drawing.find("g[@class='bars pass']/line")
    assert (bar.get("x1"), bar.get("x2")) == (f"{at(0.85):.1f}", f"{at(0.95):.1f}")
    assert drawing.find("circle").get("cx") == f"{at(0.9):.1f}"
    assert drawing.findtext("text") == "≥ 0.8000" and drawing.findtext("desc") == "told"


def test_bounds_that_are_not_known_reach_the_edges():
    unknown = gate("latency_p95_ms", "max", 20.0, (16.0, None, None), "inconclusive")
    drawing = interval.draw(unknown, "g", "told", "20.00 ms")
    bar, *arrows = drawing.find("g")
    assert (bar.get("x1"), bar.get("x2")) == ("1", "239") and len(arrows) == 4
    assert drawing.find("rect").get("x") == "0", "at most: what is left of the limit is allowed"
    nothing = replace(unknown, observed=math.nan)
    assert interval.draw(nothing, "g", "told", "20.00 ms").find("circle") is None


def test_a_curve_by_hand():
    drawing = curve.draw([(0, 2.0), (10, 1.0), (20, 1.0)], "c", "distill: loss")
    # Steps from 44 to 214; losses from 100 up to 8, 5 % of their range free on either side.
    low, high = 100 - 92 * 0.05 / 1.1, 100 - 92 * 1.05 / 1.1
    assert drawing.find("polyline").get("points") == f"44.0,{high:.1f} 129.0,{low:.1f} 214.0,{low:.1f}"
    assert drawing.findtext("desc") == "From 2 at step 0 to 1 at step 20; lowest 1, highest 2."
    assert curve.draw([(5, 1.0)], "c", "one point").find("polyline") is not None


AREA = Box(56, 30, 480, 292)


def test_names_stand_beside_their_points():
    (right,) = labels.place([(100.0, 100.0, "a")], AREA)
    assert (right.text, right.x, right.y, right.anchor, right.point) == ("a", 109, 104, "start", None)
    (left,) = labels.place([(470.0, 100.0, "export")], AREA)
    assert left.anchor == "end", "at the right edge, it stands on the left"
    (shared,) = labels.place([(100.0, 100.0, "baseline"), (101.0, 100.0, "finetune")], AREA)
    assert shared.text == "baseline, finetune"
    (counted,) = labels.place([(100.0, 100.0, f"a long name {index}") for index in range(9)], AREA)
    assert counted.text == "a long name 0 and 8 more"
    (cut,) = labels.place([(100.0, 100.0, "n" * 99)], AREA)
    assert len(cut.text) <= 35 and cut.text.endswith("…")


@given(st.lists(st.tuples(st.integers(80, 450), st.integers(60, 270)), min_size=1, max_size=60, unique=True))
def test_names_cover_neither_each_other_nor_the_edge(places: list[tuple[int, int]]):
    placed = labels.place([(float(x), float(y), f"stage {index}") for index, (x, y) in enumerate(places)], AREA)
    boxes = [label.box for label in placed]
    if len(places) <= 6:
        assert sum(label.text.count("stage") for label in placed) == len(places), "there is room for a few"
    for index, box in enumerate(boxes):
        assert box.outside(AREA) == 0
        assert all(box.overlap(other) == 0 for other in boxes[:index])
