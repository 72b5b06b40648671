"""The report's drawings, as inline SVG: what was measured against what it costs, gates, and loss curves.

Every drawing has a title, and says in words what it shows; what is told by colour is told by shape or text as well.
Colours are those of the page's style sheet; where that is blocked, as some CI servers do, all is in the text's colour.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from compressor.gates.judge import AT_LEAST, GateResult
from compressor.report.charts import labels
from compressor.report.charts.scales import Scale
from compressor.report.markup import append, element

WIDTH, HEIGHT = 480.0, 340.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 56.0, 468.0, 30.0, 292.0
_RADIUS = 5.0
_CAP = 3.0

SHAPES = ("circle", "square", "diamond", "triangle", "triangle-down", "cross")
COLOURS = 7
"""How many colours for series the style sheet has; with as many shapes as there are, no two series look the same."""


@dataclass(frozen=True)
class Point:
    """What was measured of one checkpoint.

    Attributes:
        name: What stands beside it; it is small if that is nothing.
        x: Its cost, above 0, with its bounds.
        y: Its quality, with its bounds.
        front: Whether it is on the Pareto front.
        series: Whose it is; decides colour and shape.
        told: The same in words.
    """

    name: str
    x: tuple[float, float | None, float | None]
    y: tuple[float, float | None, float | None]
    front: bool
    series: int
    told: str


def scatter(points: Sequence[Point], ident: str, title: str, x_label: str, y_label: str) -> Element:
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
    drawing = _drawing(WIDTH, HEIGHT, ident, title, "; ".join(point.told for point in points) + ".")
    append(drawing, _axes(x, y, x_label, y_label))
    append(drawing, _front([(x.at(point.x[0]), y.at(point.y[0])) for point in points if point.front]))
    for point in points:
        append(drawing, _bars(point, x, y))
    for point in points:
        drawn = marker(point.series, x.at(point.x[0]), y.at(point.y[0]), point.front, 1.0 if point.name else 0.65)
        append(drawing, element("g", element("title", point.told), drawn))
    named = [(x.at(point.x[0]), y.at(point.y[0]), point.name) for point in points]
    crossing = [box for point in points for box in _crossing(point, x, y)]
    for label in labels.place(named, labels.Box(_LEFT, _TOP, WIDTH, _BOTTOM), crossing):
        if label.point is not None:
            end = label.y - 4
            append(drawing, _line(label.point[0], label.point[1], label.x, end, "leader"))
        append(drawing, _text(label.text, label.x, label.y, label.anchor, "name"))
    return drawing


def _axes(x: Scale, y: Scale, x_label: str, y_label: str) -> Element:
    group = element("g", class_="axes")
    for tick, written in y.ticks():
        append(group, _line(_LEFT, y.at(tick), _RIGHT, y.at(tick), "grid"))
        append(group, _text(written, _LEFT - 7, y.at(tick) + 4, "end"))
    for tick, written in x.ticks():
        append(group, _line(x.at(tick), _TOP, x.at(tick), _BOTTOM, "grid"))
        append(group, _text(written, x.at(tick), _BOTTOM + 17, "middle"))
    append(group, _line(_LEFT, _BOTTOM, _RIGHT, _BOTTOM, "axis"))
    append(group, _text(f"↑ {y_label}", 4.0, 16.0, "start", "label"))
    append(group, _text(f"← {x_label}, log scale", (_LEFT + _RIGHT) / 2, HEIGHT - 8, "middle", "label"))
    return group


def _front(places: Sequence[tuple[float, float]]) -> Element:
    """What the front attains, as steps: up at each of its points, and level until the next."""
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
            append(group, _line(left, up, right, up))
            for end in (left, right):
                append(group, _line(end, up - _CAP, end, up + _CAP))
        else:
            bottom, top = y.at(low), y.at(high)
            append(group, _line(across, bottom, across, top))
            for end in (bottom, top):
                append(group, _line(across - _CAP, end, across + _CAP, end))
    return group


def _crossing(point: Point, x: Scale, y: Scale) -> tuple[labels.Box, labels.Box]:
    """Where a point's bounds are drawn."""
    across = [x.at(value) for value in point.x if value is not None]
    down = [y.at(value) for value in point.y if value is not None]
    return (
        labels.Box(across[0] - 1, min(down), across[0] + 1, max(down)),
        labels.Box(min(across), down[0] - 1, max(across), down[0] + 1),
    )


def marker(series: int, x: float, y: float, filled: bool, size: float = 1.0) -> Element:
    """A point: its shape and colour are its series', and it is filled on the front."""
    shape, r = SHAPES[series % len(SHAPES)], _RADIUS
    look = {
        "class_": f"marker series-{series % COLOURS}{' filled' if filled else ''}",
        "fill": "currentColor" if filled else "none",
        "stroke": "currentColor",
        "stroke_width": "2",
    }
    if shape == "circle":
        return element("circle", cx=x, cy=y, r=r * size, **look)
    outlines: dict[str, list[tuple[float, float]]] = {
        "square": [(-r, -r), (r, -r), (r, r), (-r, r)],
        "diamond": [(0, -r - 1.5), (r + 1.5, 0), (0, r + 1.5), (-r - 1.5, 0)],
        "triangle": [(0, -r - 1), (r + 1, r), (-r - 1, r)],
        "triangle-down": [(0, r + 1), (r + 1, -r), (-r - 1, -r)],
        "cross": [(-2, -6), (2, -6), (2, -2), (6, -2), (6, 2), (2, 2), (2, 6), (-2, 6), (-2, 2), (-6, 2), (-6, -2),
                  (-2, -2)],
    }  # fmt: skip
    path = "L".join(f"{x + size * right:.1f} {y + size * down:.1f}" for right, down in outlines[shape])
    return element("path", d=f"M{path}Z", **look)


def icon(series: int, filled: bool) -> Element:
    """A marker for a table's row; the row says the same in words."""
    return element("svg", marker(series, 8.0, 8.0, filled), viewBox="0 0 16 16", class_="icon", aria_hidden="true")


_GATE_WIDTH, _GATE_HEIGHT = 240.0, 44.0


def interval(gate: GateResult, ident: str, told: str, limit: str) -> Element:
    """What a gate saw, with its bounds, against its limit; the allowed side is shaded.

    A bound that is not known is an arrow to the edge.

    Args:
        gate: The gate.
        ident: Unique in the page.
        told: The same in words.
        limit: The limit as it is written.
    """
    known = [value for value in (gate.low, gate.high, gate.observed) if value is not None and not math.isnan(value)]
    scale = Scale.around([*known, gate.limit], 10.0, _GATE_WIDTH - 10, margin=0.15)
    place, middle = scale.at(gate.limit), 14.0
    at_least = gate.rule in AT_LEAST
    drawing = _drawing(_GATE_WIDTH, _GATE_HEIGHT, ident, f"{gate.metric} against its limit", told)
    left, right = (place, _GATE_WIDTH) if at_least else (0.0, place)
    append(drawing, element("rect", class_="allowed", x=left, y=2.0, width=right - left, height=24.0, fill="none"))
    append(drawing, _line(place, 0.0, place, 28.0, "limit", "2"))
    ends = [scale.at(value) if value is not None else None for value in (gate.low, gate.high)]
    append(drawing, _span(ends, middle, f"bars {gate.verdict}"))
    if not math.isnan(gate.observed):
        look = {"class_": f"marker {gate.verdict} filled", "fill": "currentColor", "stroke": "currentColor"}
        append(drawing, element("circle", cx=scale.at(gate.observed), cy=middle, r=4.0, **look))
    half = 3.3 * (len(limit) + 2)
    centre = min(max(place, half), _GATE_WIDTH - half)
    append(drawing, _text(f"{'≥' if at_least else '≤'} {limit}", centre, 40.0, "middle"))
    return drawing


def _span(ends: Sequence[float | None], y: float, name: str) -> Element:
    """A bar from the lower to the upper bound."""
    group = element("g", class_=name)
    edges = (1.0, _GATE_WIDTH - 1)
    left, right = (edge if end is None else end for end, edge in zip(ends, edges, strict=True))
    append(group, _line(left, y, right, y, width="2.5"))
    for end, edge, inward in zip(ends, edges, (6.0, -6.0), strict=True):
        if end is not None:
            append(group, _line(end, y - 6, end, y + 6, width="2"))
        else:
            for down in (-5.0, 5.0):
                append(group, _line(edge, y, edge + inward, y + down, width="2"))
    return group


_CURVE_WIDTH, _CURVE_HEIGHT = 220.0, 120.0


def curve(points: Sequence[Sequence[float]], ident: str, title: str) -> Element:
    """A loss over the steps of its training.

    Args:
        points: (step, loss), in order; at least one.
        ident: Unique in the page.
        title: What is drawn.
    """
    steps, losses = [point[0] for point in points], [point[1] for point in points]
    x = Scale.around(steps, 44.0, _CURVE_WIDTH - 6, margin=0.0)
    y = Scale.around(losses, _CURVE_HEIGHT - 20, 8.0, margin=0.05)
    told = f"From {losses[0]:.4g} at step {steps[0]:.6g} to {losses[-1]:.4g} at step {steps[-1]:.6g}; "
    told += f"lowest {min(losses):.4g}, highest {max(losses):.4g}."
    drawing = _drawing(_CURVE_WIDTH, _CURVE_HEIGHT, ident, title, told)
    for tick, written in y.ticks(4):
        append(drawing, _line(44.0, y.at(tick), _CURVE_WIDTH - 6, y.at(tick), "grid"))
        append(drawing, _text(written, 39.0, y.at(tick) + 4, "end"))
    for step, anchor in dict(zip((steps[0], steps[-1]), ("start", "end"), strict=True)).items():
        append(drawing, _text(f"{step:.6g}", x.at(step), _CURVE_HEIGHT - 5, anchor))
    path = " ".join(f"{x.at(step):.1f},{y.at(loss):.1f}" for step, loss in zip(steps, losses, strict=True))
    look = {"fill": "none", "stroke": "currentColor", "stroke_width": "1.5"}
    append(drawing, element("polyline", points=path, class_="curve", **look))
    return drawing


def _drawing(width: float, height: float, ident: str, title: str, told: str) -> Element:
    """An empty drawing; `told` is what a screen reader reads."""
    return element(
        "svg",
        element("title", title, id=f"{ident}-title"),
        element("desc", told, id=f"{ident}-desc"),
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_labelledby=f"{ident}-title {ident}-desc",
        fill="currentColor",
        font_size="12",
    )


def _line(x1: float, y1: float, x2: float, y2: float, name: str | None = None, width: str = "1") -> Element:
    return element("line", class_=name, x1=x1, y1=y1, x2=x2, y2=y2, stroke="currentColor", stroke_width=width)


def _text(text: str, x: float, y: float, anchor: str, name: str | None = None) -> Element:
    return element("text", text, class_=name, x=x, y=y, text_anchor=anchor)
