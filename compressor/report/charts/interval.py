"""The drawing of a gate: the observed value and its bounds against the limit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.etree.ElementTree import Element

from compressor.gates.judge import AT_LEAST, GateResult
from compressor.report.charts import svg
from compressor.report.charts.scales import Scale
from compressor.report.elements import append, element

_WIDTH, _HEIGHT = 240.0, 44.0


def draw(gate: GateResult, ident: str, description: str, limit: str) -> Element:
    """The observed value and its bounds against the limit; the allowed side is shaded.

    An unknown bound is drawn as an arrow to the edge.

    Args:
        gate: The gate.
        ident: Unique in the page.
        description: The same in words.
        limit: The limit as it is written.
    """
    known = [value for value in (gate.low, gate.high, gate.observed) if value is not None and not math.isnan(value)]
    scale = Scale.around([*known, gate.limit], 10.0, _WIDTH - 10, margin=0.15)
    place, middle = scale.at(gate.limit), 14.0
    at_least = gate.rule in AT_LEAST
    drawing = svg.drawing(_WIDTH, _HEIGHT, ident, f"{gate.metric} against its limit", description)
    left, right = (place, _WIDTH) if at_least else (0.0, place)
    append(drawing, element("rect", class_="allowed", x=left, y=2.0, width=right - left, height=24.0, fill="none"))
    append(drawing, svg.line(place, 0.0, place, 28.0, "limit", "2"))
    ends = [scale.at(value) if value is not None else None for value in (gate.low, gate.high)]
    append(drawing, _span(ends, middle, f"bars {gate.verdict}"))
    if not math.isnan(gate.observed):
        look = {"class_": f"marker {gate.verdict} filled", "fill": "currentColor", "stroke": "currentColor"}
        append(drawing, element("circle", cx=scale.at(gate.observed), cy=middle, r=4.0, **look))
    half = 3.3 * (len(limit) + 2)
    centre = min(max(place, half), _WIDTH - half)
    append(drawing, svg.text(f"{'≥' if at_least else '≤'} {limit}", centre, 40.0, "middle"))
    return drawing


def _span(ends: Sequence[float | None], y: float, name: str) -> Element:
    """A bar from the lower to the upper bound."""
    group = element("g", class_=name)
    edges = (1.0, _WIDTH - 1)
    left, right = (edge if end is None else end for end, edge in zip(ends, edges, strict=True))
    append(group, svg.line(left, y, right, y, width="2.5"))
    for end, edge, inward in zip(ends, edges, (6.0, -6.0), strict=True):
        if end is not None:
            append(group, svg.line(end, y - 6, end, y + 6, width="2"))
        else:
            for down in (-5.0, 5.0):
                append(group, svg.line(edge, y, edge + inward, y + down, width="2"))
    return group
