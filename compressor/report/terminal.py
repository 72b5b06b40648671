"""Tables in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from compressor.report.model import Report

if TYPE_CHECKING:
    from rich.console import Console

    from compressor.measure.bench import Timed
    from compressor.package.inspection import Inspection
    from compressor.package.manifest import Check, StageGate

from compressor.report.numbers import HEADER, SIGNS, _bound, cells, gate_text, quality_metric

_COLOURS = {"pass": "green", "fail": "bold red", "inconclusive": "yellow"}


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
        table.add_row(Text(row[0]), Text(row[1], style=_COLOURS[stage.verdict]), *row[2:])
    console.print(table)
    for stage in report.stages:
        for gate in stage.gates:
            style = _COLOURS[gate.verdict]
            console.print(Text.assemble((f"{SIGNS[gate.verdict]:>12}", style), f"  {stage.name}: {gate_text(gate)}"))
    if report.not_run:
        console.print(Text(f"not run after the failed gate: {', '.join(report.not_run)}"))


def print_bench(timed: list[Timed], console: Console) -> None:
    """Prints what `compress bench` timed; brackets hold one-sided 95 % bounds."""
    from rich.table import Table

    table = Table(header_style="bold")
    for name in ("path", "runtime", "MB", "p50 ms", "p95 ms", "speed-up"):
        table.add_column(name, justify="left" if name in ("path", "runtime") else "right")
    for entry in timed:
        numbers = [
            f"{estimate.value:.2f} [{_bound(estimate.low)}, {_bound(estimate.high)}]"
            for estimate in (entry.p50, entry.p95, entry.speedup)
        ]
        table.add_row(entry.path, entry.runtime, f"{entry.size_bytes / 1e6:.1f}", *numbers)
    console.print(table)


def print_verification(checks: Sequence[Check], gates: Sequence[StageGate], console: Console) -> None:
    """Prints what `compress verify` looked at, and the gates that it found recorded."""
    from rich.table import Table
    from rich.text import Text

    table = Table(header_style="bold")
    for name in ("verdict", "check", "of", "found"):
        table.add_column(name, no_wrap=name != "found")
    for check in checks:
        verdict = Text(SIGNS[check.verdict], _COLOURS[check.verdict])
        # As Text: names of files may hold what would be markup.
        table.add_row(verdict, check.kind, Text(check.subject), Text(check.told))
    console.print(table)
    for gate in gates:
        sign, style = SIGNS[gate.result.verdict], _COLOURS[gate.result.verdict]
        told = f"  recorded gate of {gate.stage}: {gate_text(gate.result)}"
        console.print(Text.assemble((f"{sign:>12}", style), told))


def print_inspections(found: list[Inspection], console: Console) -> None:
    """Prints what `compress inspect` found: one table for each file, and its operators below."""
    from rich.table import Table

    for entry in found:
        table = Table(title=f"{entry.path}  {entry.size_bytes / 1e6:.2f} MB", title_justify="left", header_style="bold")
        for name in ("part", "parameters", "as called", "MB", "types"):
            table.add_column(name, justify="left" if name in ("part", "types") else "right")
        for part, sums in entry.by_part().items():
            types = {weight.type for weight in entry.weights if weight.part == part}
            table.add_row(part, *_counts(sums), ", ".join(sorted(types)))
        everything = {"parameters": entry.stored, "called": entry.called}
        size = sum(weight.size_bytes for weight in entry.weights)
        coverage = entry.quantized_coverage
        integers = "" if coverage is None else f"{coverage:.0%} of the matrices run as integers"
        table.add_section()
        table.add_row("all", *_counts({**everything, "size_bytes": size}), integers)
        console.print(table)
        if entry.operators:
            console.print("operators: " + ", ".join(f"{count} {name}" for name, count in entry.operators.items()))


def _counts(sums: Mapping[str, int]) -> tuple[str, str, str]:
    return f"{sums['parameters']:,}", f"{sums['called']:,}", f"{sums['size_bytes'] / 1e6:.2f}"
