"""The report for people: Markdown and a terminal table, from the same cells."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compressor.gates import GateResult
from compressor.metrics import METRICS
from compressor.recipe import QUALITY_METRICS
from compressor.report.model import Measurement, Report, StageReport
from compressor.store import write_atomic

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

_MOST_ROWS = 16
"""Of a table that can be long: a comment on a pull request is to be read."""

_BLOCKS = "▁▂▃▄▅▆▇█"

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

    def show(metric: str, scale: float, form: str) -> str:
        return format(measured[metric].value / scale, form) if metric in measured else "–"

    score = _score(measured.get(QUALITY_METRICS[stage.task][0]))
    other = "" if stage.task == task else f"{stage.task} "
    speedup = stage.details.get("speedup")
    return [
        stage.name,
        SIGNS[stage.verdict],
        score if score == "–" else other + score,
        show("latency_p50_ms", 1, ".2f"),
        f"{speedup:.2f}x" if speedup is not None else "–",
        show("latency_p95_ms", 1, ".2f"),
        show("size_bytes", 1e6, ".1f"),
        show("num_parameters", 1e6, ".2f") + " M",
        show("peak_rss_bytes", 1e6, ".0f"),
        show("quantized_coverage", 0.01, ".0f") + " %",
        "cached" if stage.from_cache else f"{stage.seconds:.0f} s",
    ]


def gate_text(gate: GateResult) -> str:
    """A gate in one line: what was demanded, what was seen."""
    relative = gate.relative_to is not None
    unit = METRICS[gate.metric].unit if gate.rule in ("min", "max", "max_drop") else ""
    word = f"{_RULE_WORDS[gate.rule]} " if relative else ""
    against = f" relative to {gate.relative_to}" if relative else ""
    return (
        f"{gate.metric}: {word}{number(gate.observed, unit)} [{number(gate.low, unit)}, {number(gate.high, unit)}]"
        f" {_RULE_SIGNS[gate.rule]} {number(gate.limit, unit)}{against}"
    )


def markdown(report: Report) -> str:
    """The report as Markdown, short enough for a comment on a pull request."""
    quality = quality_metric(report)
    header = [name.format(quality=quality) for name in HEADER]
    lines = [
        f"# {report.recipe}: {SIGNS[report.verdict]}",
        "",
        "| " + " | ".join(header) + " |",
        "|" + "---|" * len(header),
        *("| " + " | ".join(row) + " |" for row in cells(report)),
        "",
        *_other_scores(report),
    ]
    gates = [(stage, gate) for stage in report.stages for gate in stage.gates]
    if gates:
        lines += ["| stage | gate | verdict |", "|---|---|---|"]
        lines += [f"| {stage.name} | {gate_text(gate)} | {SIGNS[gate.verdict]} |" for stage, gate in gates]
        lines.append("")
    lines += _parity(report)
    lines += _curves(report)
    lines += [line for stage in report.stages for line in _kept_in_float(stage)]
    lines += [f"{stage.name}: {note}\n" for stage in report.stages for note in stage.details.get("notes", [])]
    if report.not_run:
        lines += [f"Not run after the failed gate: {', '.join(report.not_run)}.", ""]
    environment = ", ".join(f"{name} {value}" for name, value in report.environment.items())
    lines += [
        "Brackets hold one-sided 95 % bounds: order statistics for latency, Wilson's interval for accuracy, paired"
        " bootstrap for differences. Speed-up is a ratio of calls timed in turn in one process.",
        "",
        f"{report.seconds:.0f} s. {environment}.",
        "",
    ]
    return "\n".join(lines)


def _other_scores(report: Report) -> list[str]:
    """What else the task was scored by, beside its main metric."""
    others = QUALITY_METRICS[report.task][1:]
    found = [name for name in others if any(name in stage.measurements for stage in report.stages)]
    if not found:
        return []
    rows = [
        "| " + " | ".join([stage.name, *(_score(stage.measurements.get(name)) for name in found)]) + " |"
        for stage in report.stages
        if stage.task == report.task
    ]
    return [f"| stage | {' | '.join(found)} |", "|" + "---|" * (1 + len(found)), *rows, ""]


def _kept_in_float(stage: StageReport) -> list[str]:
    """What quantization left in float, and why."""
    found = stage.details.get("selection")
    if found is None:
        return []
    metric, kept, everything = QUALITY_METRICS[stage.task][0], found["kept"], len(found["matrices"])
    told = (
        f"{stage.name}: {kept or 'none'} of {everything} matrices had to stay in float for {metric} to drop by at most "
        f"{number(found['max_drop'])}: it is {number(found['float'])} in float, {number(found['quantized'])} with none "
        f"of them and {number(found['chosen'])} as chosen."
    )
    if not kept:
        return [told, ""]
    rows = [
        f"| {matrix['name']} | {matrix['divergence']:.2e} | {matrix['multiply_adds']:.1%} | {matrix['size']:.1%} |"
        for matrix in found["matrices"][:kept]
    ]
    if kept > _MOST_ROWS:
        rows = [*rows[: _MOST_ROWS - 1], f"| and {kept - _MOST_ROWS + 1} more, in report.json | | | |"]
    header = "| stays in float | divergence of the answers if quantized alone, nats | multiply-adds | bytes |"
    return [told, "", header, "|---|---|---|---|", *rows, ""]


def _score(measured: Measurement | None) -> str:
    """A score with its bounds."""
    return f"{measured.value:.4f} [{number(measured.low)}, {number(measured.high)}]" if measured else "–"


def _parity(report: Report) -> list[str]:
    """How far each exported format is from what it is held against."""
    found = [(stage.name, stage.details["parity"]) for stage in report.stages if "parity" in stage.details]
    if not found:
        return []
    lines = ["| stage | format | against | same label | largest difference | where | least cosine |", "|" + "---|" * 7]
    for name, parity in found:
        for form, entry in parity["formats"].items():
            numbers = [number(entry["label_agreement"]), number(entry["max_abs_diff"])]
            cells = [name, form, entry["against"], *numbers, entry["worst"], f"{entry['min_cosine']:.6f}"]
            lines.append("| " + " | ".join(cells) + " |")
    _, last = found[-1]
    asked = f"{last['rows']} validation rows in batches and alone; rows of 1, 2 and the most tokens, of two segments,"
    end = f"padded left, right and inside; no token types ({last['no_token_types']})."
    return [*lines, "", f"Formats were asked: {asked} {end}", ""]


def _curves(report: Report) -> list[str]:
    """What each loss term of each training stage did, from the first to the last point of its curve."""
    rows = [
        f"| {stage.name} | {name} | {curve[0][1]:.4f} | {curve[-1][1]:.4f} | {sparkline([y for _, y in curve])} |"
        for stage in report.stages
        for name, curve in _stage_curves(stage).items()
        if curve
    ]
    return ["| stage | loss term | first | last | curve |", "|---|---|---|---|---|", *rows, ""] if rows else []


def _stage_curves(stage: StageReport) -> dict[str, list[list[float]]]:
    """The loss, and its terms where there are several."""
    terms = stage.details.get("terms", {})
    return {"loss": stage.details.get("loss", []), **(terms if len(terms) > 1 else {})}


def sparkline(values: Sequence[float], width: int = 20) -> str:
    """A curve in one line of text, from its lowest to its highest value."""
    bins = [values[len(values) * i // width : max(len(values) * (i + 1) // width, len(values) * i // width + 1)]
            for i in range(width)] if len(values) > width else [[value] for value in values]  # fmt: skip
    means = [sum(part) / len(part) for part in bins]
    low, high = min(means), max(means)
    scale = (len(_BLOCKS) - 1) / (high - low) if high > low else 0
    return "".join(_BLOCKS[round((mean - low) * scale)] for mean in means)


def write_markdown(report: Report, path: Path) -> None:
    """Writes report.md."""
    write_atomic(path, markdown(report))


def print_table(report: Report, console: Console) -> None:
    """Prints the report."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"{report.recipe}", title_justify="left", header_style="bold")
    quality = quality_metric(report)
    for index, name in enumerate(HEADER):
        right = index > 1
        table.add_column(name.format(quality=quality), justify="right" if right else "left", no_wrap=index != 2)
    for stage, row in zip(report.stages, cells(report), strict=True):
        table.add_row(row[0], Text(row[1], style=_COLOURS[stage.verdict]), *row[2:])
    console.print(table)
    for stage in report.stages:
        for gate in stage.gates:
            style = _COLOURS[gate.verdict]
            console.print(Text.assemble((f"{SIGNS[gate.verdict]:>12}", style), f"  {stage.name}: {gate_text(gate)}"))
    if report.not_run:
        console.print(f"not run after the failed gate: {', '.join(report.not_run)}")


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
