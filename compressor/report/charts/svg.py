"""Elements that all drawings are made of.

Every drawing has a title, and says in words what it shows; colours only repeat what shape or text says. Colours are
those of the page's style sheet; where that is blocked, as on some CI servers, everything has the text's colour.
"""

from __future__ import annotations

from xml.etree.ElementTree import Element

from compressor.report.elements import element


def drawing(width: float, height: float, ident: str, title: str, description: str) -> Element:
    """An empty drawing; screen readers read `description`."""
    return element(
        "svg",
        element("title", title, id=f"{ident}-title"),
        element("desc", description, id=f"{ident}-desc"),
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_labelledby=f"{ident}-title {ident}-desc",
        fill="currentColor",
        font_size="12",
    )


def line(x1: float, y1: float, x2: float, y2: float, name: str | None = None, width: str = "1") -> Element:
    """A line, in the colour of its surroundings."""
    return element("line", class_=name, x1=x1, y1=y1, x2=x2, y2=y2, stroke="currentColor", stroke_width=width)


def text(text: str, x: float, y: float, anchor: str, name: str | None = None) -> Element:
    """A text; `anchor` is SVG's `text-anchor`."""
    return element("text", text, class_=name, x=x, y=y, text_anchor=anchor)
