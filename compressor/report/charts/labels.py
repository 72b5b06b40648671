"""Places the names of points so that they cover neither points nor each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_CHARACTER = 6.6
"""Average width of a character in a font of `_HEIGHT`."""
_HEIGHT = 12.0
_RADIUS = 6.0
_TOGETHER = 5.0
"""Points nearer to each other than this share one label."""
_LONGEST = 34
_FAR = 40.0
"""Penalty of a distant name, as the area of a line that a near one would have to cover to be as bad."""


@dataclass(frozen=True)
class Box:
    """A rectangle; y goes down."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Box) -> float:
        """The area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return width * height if width > 0 and height > 0 else 0.0

    def outside(self, other: Box) -> float:
        """The area that lies outside of another."""
        return (self.right - self.left) * (self.bottom - self.top) - self.overlap(other)


@dataclass(frozen=True)
class Label:
    """A placed name.

    Attributes:
        text: The name.
        x: Where its anchor is.
        y: Its baseline.
        anchor: SVG's `text-anchor`.
        point: The point it belongs to, if it is far enough away to need a line to it; else None.
    """

    text: str
    x: float
    y: float
    anchor: str
    point: tuple[float, float] | None

    @property
    def box(self) -> Box:
        """The area that the text covers."""
        width = _CHARACTER * len(self.text)
        left = self.x - {"start": 0.0, "middle": width / 2, "end": width}[self.anchor]
        return Box(left, self.y - _HEIGHT, left + width, self.y + 3)


def place(points: Sequence[tuple[float, float, str]], area: Box, lines: Sequence[Box] = ()) -> list[Label]:
    """Places a name beside each point; points that lie together share one.

    Names are placed one after the other, each at the first free place, or the least bad. A name that would be cut
    at the edge or cover another name is left out.

    Args:
        points: x, y and name; a point without a name is only kept uncovered.
        area: Where names may stand.
        lines: Areas to avoid, such as error bars.
    """
    markers = [Box(x - _RADIUS, y - _RADIUS, x + _RADIUS, y + _RADIUS) for x, y, _ in points]
    taken: list[Box] = []
    labels = []
    for x, y, text in _together(points):
        free = []
        for label in _places(x, y, text):
            box = label.box
            if box.outside(area) or any(map(box.overlap, taken)):
                continue
            covered = sum(map(box.overlap, markers)) + sum(map(box.overlap, lines))
            free.append((covered + (_FAR if label.point is not None else 0), label, box))
            if free[-1][0] == 0:
                break
        if free:
            _, label, box = min(free, key=lambda entry: entry[0])
            taken.append(box)
            labels.append(label)
    return labels


def _together(points: Sequence[tuple[float, float, str]]) -> list[tuple[float, float, str]]:
    groups: list[tuple[float, float, list[str]]] = []
    for x, y, text in points:
        if not text:
            continue
        near = (names for a, b, names in groups if abs(a - x) < _TOGETHER and abs(b - y) < _TOGETHER)
        if (names := next(near, None)) is not None:
            names.append(text)
        else:
            groups.append((x, y, [text]))
    return [(x, y, _joined(names)) for x, y, names in groups]


def _joined(names: Sequence[str]) -> str:
    """The names in one text; those that do not fit are counted."""
    shown = ", ".join(dict.fromkeys(names))
    if len(shown) <= _LONGEST:
        return shown
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return names[0][: _LONGEST - len(more)].rstrip() + ("" if more else "…") + more


def _places(x: float, y: float, text: str) -> Iterator[Label]:
    """Candidate places, the best first: right, left, above, below, then further and further away."""
    for off, dy, anchor in ((9, 4, "start"), (-9, 4, "end"), (0, -10, "middle"), (0, 20, "middle")):
        yield Label(text, x + off, y + dy, anchor, None)
    for distance in (16, 30, 44, 58, 72, 86):
        for down in (-distance, distance):
            for off, anchor in ((9, "start"), (-9, "end"), (24, "start"), (-24, "end")):
                yield Label(text, x + off, y + down + 4, anchor, (x, y))
