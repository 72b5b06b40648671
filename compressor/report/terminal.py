"""Tables in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compressor.report.model import Report
from compressor.report.numbers import HEADER, SIGNS, cells, gate_text, quality_metric

if TYPE_CHECKING:
    from rich.console import Console


COLOURS = {"pass": "green", "fail": "bold red", "inconclusive": "yellow"}


def print_table(report: Report, console: Console) -> None:
    """Prints the report."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=report.recipe, title_justify="left", header_style="bold")
    quality = quality_metric(report)
    for index, name in enumerate(HEADER):
        right = index > 1
        table.add_column(name.format(quality=quality), justify="right" if right else "left", no_wrap=index != 2)
    for stage, row in zip(report.stages, cells(report), strict=True):
        # As Text: a stage's name may hold what would be markup.
        table.add_row(Text(row[0]), Text(row[1], style=COLOURS[stage.verdict]), *row[2:])
    console.print(table)
    for stage in report.stages:
        for gate in stage.gates:
            style = COLOURS[gate.verdict]
            console.print(Text.assemble((f"{SIGNS[gate.verdict]:>12}", style), f"  {stage.name}: {gate_text(gate)}"))
    if report.not_run:
        console.print(Text(f"not run after the failed gate: {', '.join(report.not_run)}"))
