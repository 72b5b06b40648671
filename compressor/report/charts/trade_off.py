"""Quality against cost: the drawings that reports and comparisons share, and which checkpoints are Pareto-optimal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from compressor.report import sentences
from compressor.report.charts import scatter
from compressor.report.charts.scatter import Point
from compressor.report.model import Measurement

COSTS = {"latency_p50_ms": ("latency", "p50 latency, ms", 1.0), "size_bytes": ("size", "size, MB", 1e6)}
"""The costs that quality is drawn against: a short name, the axis title, and the metric's value of one axis unit."""

LEGEND = (
    "Filled markers and the dashed line are the Pareto front: anything better costs more. For each hollow marker, "
    "something as good costs less, or something better costs no more. Bars are one-sided 95 % bounds; where they "
    "overlap, the order may be chance."
)


@dataclass(frozen=True)
class Drawn:
    """A checkpoint in a drawing.

    Attributes:
        name: Its name.
        series: The series it belongs to, which decides colour and shape.
        measurements: By metric.
        named: Whether its name stands beside it.
    """

    name: str
    series: int
    measurements: Mapping[str, Measurement]
    named: bool = True


def drawings(measured: Sequence[Drawn], quality: str, ident: str) -> dict[str, Element]:
    """Quality against each cost, by the cost's short name.

    Args:
        measured: The points; those that lack a measurement are left out.
        quality: The metric of quality; more is better.
        ident: Unique in the page.
    """
    drawn = {}
    for metric, (name, label, scale) in COSTS.items():
        if found := [entry for entry in measured if _drawable(entry.measurements, quality, metric)]:
            title = f"{quality} against {name}"
            points = _points(found, quality, metric, scale)
            drawn[name] = scatter.draw(points, f"{ident}-{name}", title, label, quality)
    return drawn


def on_front(measured: Sequence[Mapping[str, Measurement]], quality: str, metric: str) -> list[bool]:
    """For each, whether it is Pareto-optimal in quality and a cost; false unless both were measured."""
    found = [index for index, entry in enumerate(measured) if _drawable(entry, quality, metric)]
    best = front([(measured[index][metric].value, measured[index][quality].value) for index in found])
    chosen = {index for index, is_best in zip(found, best, strict=True) if is_best}
    return [index in chosen for index in range(len(measured))]


def front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """For each (cost, quality), whether no other point is at least as good in both and better in one.

    Less cost and more quality are better. Equal points are on the front together.
    """
    return [
        not any(cost <= x and quality >= y and (cost, quality) != (x, y) for cost, quality in points) for x, y in points
    ]


def _drawable(entry: Mapping[str, Measurement], quality: str, metric: str) -> bool:
    if not {quality, metric} <= set(entry):
        return False
    return math.isfinite(entry[quality].value) and entry[metric].value > 0


def _points(measured: Sequence[Drawn], quality: str, metric: str, scale: float) -> list[Point]:
    best = on_front([entry.measurements for entry in measured], quality, metric)
    points = []
    for entry, is_best in zip(measured, best, strict=True):
        found = entry.measurements
        description = (
            f"{entry.name}: {sentences.measured(quality, found[quality])}, {sentences.measured(metric, found[metric])}"
        )
        points.append(
            Point(
                name=entry.name if entry.named else "",
                x=_bounded(found[metric], scale),
                y=_bounded(found[quality], 1.0),
                front=is_best,
                series=entry.series,
                description=description + (", on the Pareto front" if is_best else ""),
            )
        )
    return points


def _bounded(found: Measurement, scale: float) -> tuple[float, float | None, float | None]:
    low, high = (None if bound is None else bound / scale for bound in (found.low, found.high))
    return found.value / scale, low, high
