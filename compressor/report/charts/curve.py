"""The drawing of a loss over the steps of its training."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from compressor.report.charts import svg
from compressor.report.charts.scales import Scale
from compressor.report.elements import append, element

_WIDTH, _HEIGHT = 220.0, 120.0


def draw(points: Sequence[Sequence[float]], ident: str, title: str) -> Element:
    """A loss over the steps of its training.

    Args:
        points: (step, loss), in order; at least one.
        ident: Unique in the page.
        title: What is drawn.
    """
    steps, losses = [point[0] for point in points], [point[1] for point in points]
    x = Scale.around(steps, 44.0, _WIDTH - 6, margin=0.0)
    y = Scale.around(losses, _HEIGHT - 20, 8.0, margin=0.05)
    description = f"From {losses[0]:.4g} at step {steps[0]:.6g} to {losses[-1]:.4g} at step {steps[-1]:.6g}; "
    description += f"lowest {min(losses):.4g}, highest {max(losses):.4g}."
    drawing = svg.drawing(_WIDTH, _HEIGHT, ident, title, description)
    for tick, written in y.ticks(4):
        append(drawing, svg.line(44.0, y.at(tick), _WIDTH - 6, y.at(tick), "grid"))
        append(drawing, svg.text(written, 39.0, y.at(tick) + 4, "end"))
    for step, anchor in dict(zip((steps[0], steps[-1]), ("start", "end"), strict=True)).items():
        append(drawing, svg.text(f"{step:.6g}", x.at(step), _HEIGHT - 5, anchor))
    path = " ".join(f"{x.at(step):.1f},{y.at(loss):.1f}" for step, loss in zip(steps, losses, strict=True))
    look = {"fill": "none", "stroke": "currentColor", "stroke_width": "1.5"}
    append(drawing, element("polyline", points=path, class_="curve", **look))
    return drawing
