"""XML and SVG elements, built as a tree that the standard library writes, so that all text is escaped."""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element

from compressor.errors import printable

Child = Element | str | None

_NO_CHARACTER = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that no document can hold, not even escaped. Source: XML 1.0, section 2.2."""


def element(tag: str, /, *children: Child, **attributes: str | float | None) -> Element:
    """An element.

    Args:
        tag: Its name.
        children: Elements and texts, in order; None is left out.
        attributes: By name, with `_` for `-`, and `class_` for `class`; those that are None are left out.
    """
    given = {name: value for name, value in attributes.items() if value is not None}
    node = Element(tag, {name.rstrip("_").replace("_", "-"): _attribute(value) for name, value in given.items()})
    for child in children:
        append(node, child)
    return node


def append(node: Element, child: Child) -> None:
    """Adds a child after the others."""
    if isinstance(child, str):
        if len(node):
            node[-1].tail = (node[-1].tail or "") + clean(child)
        else:
            node.text = (node.text or "") + clean(child)
    elif child is not None:
        node.append(child)


def clean(text: str) -> str:
    """Text with an escape for each control character, and a replacement mark for others that no document can hold."""
    return _NO_CHARACTER.sub("\ufffd", printable(text, keep="\t\n"))


def _attribute(value: str | float) -> str:
    """An attribute's value; coordinates are rounded to a tenth of a pixel."""
    return f"{value:.1f}".rstrip("0").rstrip(".") if isinstance(value, float) else clean(str(value))
