"""The marker of a checkpoint: its shape and colour show its series."""

from __future__ import annotations

from xml.etree.ElementTree import Element

from compressor.report.elements import element

RADIUS = 5.0

SHAPES = ("circle", "square", "diamond", "triangle", "triangle-down", "cross")

COLOURS = 7
"""Number of colours for series in the style sheet. It has no common divisor with the number of shapes, so that the
first 42 series all look different."""


def marker(series: int, x: float, y: float, filled: bool, size: float = 1.0) -> Element:
    """A point: its shape and colour are its series', and it is filled on the front."""
    shape, r = SHAPES[series % len(SHAPES)], RADIUS
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
