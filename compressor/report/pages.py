"""Fills the templates of HTML pages. Pages are self-contained, load nothing and escape every text."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from compressor.report import sentences
from compressor.report.elements import clean


def render(template: str, **values: object) -> str:
    """The page's text.

    Args:
        template: File name in `templates/`.
        values: The names that the template uses; drawings are `Element`s.
    """
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        finalize=_printable,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["badge"] = sentences.badge
    return environment


def _printable(value: object) -> object:
    """A value as templates write it, before it is escaped: drawings as inline SVG, texts without control characters."""
    if isinstance(value, Element):
        return Markup(ElementTree.tostring(value, encoding="unicode", method="html"))
    return value if isinstance(value, Markup) else clean(str(value))
