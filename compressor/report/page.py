"""A page that opens anywhere: one file, nothing loaded from elsewhere, light and dark, on paper and on a phone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree.ElementTree import Element

from compressor.report import sentences
from compressor.report.markup import Child, element, render
from compressor.report.style import CSS
from compressor.report.tables import Table

# What the page's own contents could ever make a browser do: show them.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def page(title: str, children: Sequence[Child]) -> str:
    """A whole document.

    Args:
        title: Its title.
        children: What is in its body.
    """
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("link", rel="icon", href="data:,"),  # or a browser asks the server for one
        element("style", CSS),
    )
    body = element("body", element("main", *children))
    return f"<!doctype html>\n{render(element('html', head, body, lang='en'))}\n"


def section(ident: str, title: str, *children: Child) -> Element:
    """A part of the page, with its heading."""
    heading = element("h2", title, id=f"{ident}-heading")
    return element("section", heading, *children, id=ident, aria_labelledby=f"{ident}-heading")


def table(shown: Table, caption: str, cells: Mapping[tuple[int, int], Child] | None = None) -> Element:
    """A table that scrolls sideways where it does not fit; the column `verdict` has signs.

    Args:
        shown: Header and cells.
        caption: What it holds, for those who do not see it in its place.
        cells: Contents of cells that are more than text, by row and column.
    """
    head = [element("th", name, scope="col", class_=_side(shown, index)) for index, name in enumerate(shown.header)]
    verdict = shown.header.index("verdict") if "verdict" in shown.header else None
    rows = []
    for number, row in enumerate(shown.rows):
        made: list[Element] = []
        for index, cell in enumerate(row):
            content: Child = verdict_badge(cell) if index == verdict else cell
            content = (cells or {}).get((number, index), content)
            if index == 0:
                made.append(element("th", content, scope="row"))
            else:
                made.append(element("td", content, class_=_side(shown, index)))
        rows.append(element("tr", *made))
    whole = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *head)),
        element("tbody", *rows),
    )
    # It can be reached and scrolled with the keyboard.
    return element("div", whole, class_="scroll", role="region", aria_label=caption, tabindex="0")


def verdict_badge(shown: str) -> Element:
    """A verdict: a sign, a word and a colour."""
    verdict = shown.lower()
    return element("span", sentences.badge(verdict), class_=f"badge {verdict}")


def _side(shown: Table, column: int) -> str | None:
    return "number" if column >= shown.words else None
