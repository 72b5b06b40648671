"""The Pareto front: the points that no other point beats in both quality and cost."""

from __future__ import annotations

from collections.abc import Sequence


def front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """For each (cost, quality), whether no other is at least as good in both and better in one.

    Less cost and more quality are better. Equal points are on the front together.
    """
    return [
        not any(cost <= x and quality >= y and (cost, quality) != (x, y) for cost, quality in points) for x, y in points
    ]
