"""Prints reports and comparisons in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from compressor.report import comparison_table, sentences, tables
from compressor.report.comparison import Group
from compressor.report.model import Report
from compressor.report.numbers import SIGNS, cells, gate_text, header
from compressor.report.tables import Table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as Printed


COLOURS = {"pass": "green", "fail": "bold red", "inconclusive": "yellow"}


def print_table(report: Report, console: Console) -> None:
    """Prints a run: a row for each stage, a line for each gate."""
    from rich.table import Table as Printed
    from rich.text import Text

    table = Printed(title=Text(report.recipe), title_justify="left", header_style="bold")
    for index, name in enumerate(header(report)):
        right = index > 1
        table.add_column(name, justify="right" if right else "left", no_wrap=index != 2)
    for stage, row in zip(report.stages, cells(report), strict=True):
        # As Text: a stage's name may look like markup.
        table.add_row(Text(row[0]), Text(row[1], style=COLOURS[stage.verdict]), *row[2:])
    console.print(table)
    if (found := tables.formats(report)) is not None:
        console.print(_printed(found[0], "files that ship"))
        console.print(Text(found[1]), soft_wrap=True)
    for stage in report.stages:
        for gate in stage.gates:
            style = COLOURS[gate.verdict]
            console.print(Text.assemble((f"{SIGNS[gate.verdict]:>12}", style), f"  {stage.name}: {gate_text(gate)}"))
    if left_out := sentences.not_run(report):
        console.print(Text(left_out))


def print_comparison(groups: Sequence[Group], console: Console) -> None:
    """Prints a table for each task, and the caveats."""
    from rich.text import Text

    for group in groups:
        console.print(_printed(comparison_table.table(group), comparison_table.title(group)))
        for caveat in group.caveats:
            console.print(Text(caveat), soft_wrap=True)


def _printed(shown: Table, title: str) -> Printed:
    """A report's table for the console."""
    from rich.table import Table as Printed
    from rich.text import Text

    printed = Printed(title=Text(title), title_justify="left", header_style="bold")
    for index, name in enumerate(shown.header):
        printed.add_column(name, justify="right" if index >= shown.words else "left", no_wrap=index == 0)
    for row in shown.rows:
        printed.add_row(*map(Text, row))  # as Text: names may look like markup
    return printed
