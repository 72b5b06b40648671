"""What people read in a terminal, and how numbers are written everywhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from compressor.gates import GateResult
from compressor.metrics import METRICS
from compressor.recipe import QUALITY_METRICS
from compressor.report.model import Measurement, Report, StageReport

if TYPE_CHECKING:
    from rich.console import Console

    from compressor.bench import Timed
    from compressor.inspection import Inspection
    from compressor.manifest import Check, StageGate

SIGNS = {"pass": "pass", "fail": "FAIL", "inconclusive": "inconclusive"}
_COLOURS = {"pass": "green", "fail": "bold red", "inconclusive": "yellow"}
_RULE_SIGNS = {"min": "≥", "min_retention": "≥", "min_speedup": "≥", "max": "≤", "max_drop": "≤", "max_ratio": "≤"}
_RULE_WORDS = {
    "max_drop": "drop of",
    "min_retention": "retention of",
    "min_speedup": "speed-up of",
    "max_ratio": "ratio of",
}

HEADER = ["stage", "verdict", "{quality}", "p50 ms", "speed-up", "p95 ms", "MB", "parameters", "peak MB", "int", "time"]


def number(value: float | None, unit: str = "") -> str:
    """A value as people read it."""
    if value is None or math.isnan(value):
        return "–"
    if unit == "bytes":
        return f"{value / 1e6:.1f} MB"
    if unit == "parameters":
        return f"{value / 1e6:.2f} M"
    if unit == "ms":
        return f"{value:.2f} ms"
    return f"{value:.2e}" if value and abs(value) < 1e-3 else f"{value:.4f}"


def quality_metric(report: Report) -> str:
    """The metric shown in the table: the main one of the recipe's task."""
    return QUALITY_METRICS[report.task][0]


def cells(report: Report) -> list[list[str]]:
    """One row per stage, in the order of `HEADER`."""
    return [_row(stage, report.task) for stage in report.stages]


def _row(stage: StageReport, task: str) -> list[str]:
    measured = stage.measurements

    def show(metric: str, scale: float, form: str, unit: str = "") -> str:
        value = measured[metric].value if metric in measured else math.nan
        return "–" if math.isnan(value) else format(value / scale, form) + unit

    quality = score(measured.get(QUALITY_METRICS[stage.task][0]))
    other = "" if stage.task == task else f"{stage.task} "
    speedup = stage.details.get("speedup")
    return [
        stage.name,
        SIGNS[stage.verdict],
        quality if quality == "–" else other + quality,
        show("latency_p50_ms", 1, ".2f"),
        f"{speedup:.2f}x" if speedup is not None else "–",
        show("latency_p95_ms", 1, ".2f"),
        show("size_bytes", 1e6, ".1f"),
        show("num_parameters", 1e6, ".2f", " M"),
        show("peak_rss_bytes", 1e6, ".0f"),
        show("quantized_coverage", 0.01, ".0f", " %"),
        "cached" if stage.from_cache else f"{stage.seconds:.0f} s",
    ]


def gate_unit(gate: GateResult) -> str:
    """Unit of what a gate compares; a ratio has none."""
    return METRICS[gate.metric].unit if gate.rule in ("min", "max", "max_drop") else ""


def gate_text(gate: GateResult) -> str:
    """A gate in one line: what was demanded, what was seen."""
    relative = gate.relative_to is not None
    unit = gate_unit(gate)
    word = f"{_RULE_WORDS[gate.rule]} " if relative else ""
    against = f" relative to {gate.relative_to}" if relative else ""
    return (
        f"{gate.metric}: {word}{number(gate.observed, unit)} [{number(gate.low, unit)}, {number(gate.high, unit)}]"
        f" {_RULE_SIGNS[gate.rule]} {number(gate.limit, unit)}{against}"
    )


def score(measured: Measurement | None) -> str:
    """A score with its bounds."""
    if measured is None or math.isnan(measured.value):
        return "–"
    return f"{measured.value:.4f} [{number(measured.low)}, {number(measured.high)}]"


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


def _bound(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
