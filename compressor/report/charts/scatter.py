"""The scatter plot: quality against cost, with bounds as bars, and the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from compressor.report.charts import labels, svg
from compressor.report.charts.marker import COLOURS, marker
from compressor.report.charts.scales import Scale
from compressor.report.elements import append, element

WIDTH, HEIGHT = 480.0, 340.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 56.0, 468.0, 30.0, 292.0
_CAP = 3.0


@dataclass(frozen=True)
class Point:
    """The measurements of one checkpoint.

    Attributes:
        name: The text beside it; a point without a name is small.
        x: Its cost, above 0, with its bounds.
        y: Its quality, with its bounds.
        front: Whether it is on the Pareto front.
        series: The series it belongs to, which decides colour and shape.
        description: The same in words.
    """

    name: str
    x: tuple[float, float | None, float | None]
    y: tuple[float, float | None, float | None]
    front: bool
    series: int
    description: str


def draw(points: Sequence[Point], ident: str, title: str, x_label: str, y_label: str) -> Element:
    """Quality against cost, with bounds as bars, and the Pareto front.

    Args:
        points: At least one.
        ident: Unique in the page.
        title: What is drawn.
        x_label: Name and unit of the cost.
        y_label: Name of the quality.
    """
    x = Scale.around([value for point in points for value in point.x if value is not None], _LEFT, _RIGHT, log=True)
    y = Scale.around([value for point in points for value in point.y if value is not None], _BOTTOM, _TOP)
    drawing = svg.drawing(WIDTH, HEIGHT, ident, title, "; ".join(point.description for point in points) + ".")
    append(drawing, _axes(x, y, x_label, y_label))
    append(drawing, _front([(x.at(point.x[0]), y.at(point.y[0])) for point in points if point.front]))
    for point in points:
        append(drawing, _bars(point, x, y))
    for point in points:
        drawn = marker(point.series, x.at(point.x[0]), y.at(point.y[0]), point.front, 1.0 if point.name else 0.65)
        append(drawing, element("g", element("title", point.description), drawn))
    named = [(x.at(point.x[0]), y.at(point.y[0]), point.name) for point in points]
    crossing = [box for point in points for box in _crossing(point, x, y)]
    for label in labels.place(named, labels.Box(_LEFT, _TOP, WIDTH, _BOTTOM), crossing):
        if label.point is not None:
            end = label.y - 4
            append(drawing, svg.line(label.point[0], label.point[1], label.x, end, "leader"))
        append(drawing, svg.text(label.text, label.x, label.y, label.anchor, "name"))
    return drawing


def _axes(x: Scale, y: Scale, x_label: str, y_label: str) -> Element:
    group = element("g", class_="axes")
    for tick, written in y.ticks():
        append(group, svg.line(_LEFT, y.at(tick), _RIGHT, y.at(tick), "grid"))
        append(group, svg.text(written, _LEFT - 7, y.at(tick) + 4, "end"))
    for tick, written in x.ticks():
        append(group, svg.line(x.at(tick), _TOP, x.at(tick), _BOTTOM, "grid"))
        append(group, svg.text(written, x.at(tick), _BOTTOM + 17, "middle"))
    append(group, svg.line(_LEFT, _BOTTOM, _RIGHT, _BOTTOM, "axis"))
    append(group, svg.text(f"↑ {y_label}", 4.0, 16.0, "start", "label"))
    append(group, svg.text(f"← {x_label}, log scale", (_LEFT + _RIGHT) / 2, HEIGHT - 8, "middle", "label"))
    return group


def _front(places: Sequence[tuple[float, float]]) -> Element:
    """The Pareto front as steps: up at each of its points, level until the next."""
    steps = "".join(
        f"{'M' if index == 0 else 'H'}{x:.1f}{f' {_BOTTOM:.1f}' if index == 0 else ''}V{y:.1f}"
        for index, (x, y) in enumerate(sorted(places, key=lambda place: (place[0], -place[1])))
    )
    return element(
        "path",
        class_="front",
        d=f"{steps}H{_RIGHT:.1f}",
        fill="none",
        stroke="currentColor",
        stroke_width="1.5",
        stroke_dasharray="5 4",
    )


def _bars(point: Point, x: Scale, y: Scale) -> Element:
    group = element("g", class_=f"bars series-{point.series % COLOURS}")
    across, up = x.at(point.x[0]), y.at(point.y[0])
    for low, high, horizontal in ((*point.x[1:], True), (*point.y[1:], False)):
        if low is None or high is None or low == high:
            continue
        if horizontal:
            left, right = x.at(low), x.at(high)
            append(group, svg.line(left, up, right, up))
            for end in (left, right):
                append(group, svg.line(end, up - _CAP, end, up + _CAP))
        else:
            bottom, top = y.at(low), y.at(high)
            append(group, svg.line(across, bottom, across, top))
            for end in (bottom, top):
                append(group, svg.line(across - _CAP, end, across + _CAP, end))
    return group


def _crossing(point: Point, x: Scale, y: Scale) -> tuple[labels.Box, labels.Box]:
    """Where a point's bounds are drawn."""
    across = [x.at(value) for value in point.x if value is not None]
    down = [y.at(value) for value in point.y if value is not None]
    return (
        labels.Box(across[0] - 1, min(down), across[0] + 1, max(down)),
        labels.Box(min(across), down[0] - 1, max(across), down[0] + 1),
    )
