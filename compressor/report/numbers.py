"""Formats numbers, the same way in every form of the report."""

from __future__ import annotations

import math

from compressor.gates.judge import GateResult
from compressor.gates.metrics import form_and_name, metric_of
from compressor.report.model import Measurement, Report, StageReport
from compressor.tasks import main_metric

SIGNS = {"pass": "pass", "fail": "FAIL", "inconclusive": "inconclusive"}

_RULE_SIGNS = {"min": "≥", "min_retention": "≥", "min_speedup": "≥", "max": "≤", "max_drop": "≤", "max_ratio": "≤"}

_RULE_WORDS = {
    "max_drop": "drop of",
    "min_retention": "retention of",
    "min_speedup": "speed-up of",
    "max_ratio": "ratio of",
}

HEADER = ["stage", "verdict", "{quality}", "p50 ms", "speed-up", "p95 ms", "MB", "parameters", "peak MB", "int", "time"]


def number(value: float | None, unit: str = "") -> str:
    """A value in a readable unit."""
    if value is None or math.isnan(value):
        return "–"
    if unit == "bytes":
        return f"{value / 1e6:.1f} MB"
    if unit == "parameters":
        return f"{value / 1e6:.2f} M"
    if unit == "ms":
        return f"{value:.2f} ms"
    if unit == "pieces":
        return f"{value:.0f}"
    return f"{value:.2e}" if value and abs(value) < 1e-3 else f"{value:.4f}"


def quality_metric(report: Report) -> str:
    """The primary metric of the recipe's task, which the table shows."""
    return main_metric(report.task, {name for stage in report.stages for name in stage.measurements})


def header(report: Report) -> list[str]:
    """The columns of the table of stages: those of `HEADER`, and one for each further device."""
    return [*(name.format(quality=quality_metric(report)) for name in HEADER), *_devices(report)]


def cells(report: Report) -> list[list[str]]:
    """One row per stage, in the order of `header`."""
    return [[*_row(stage, report.task), *_on(stage, _devices(report))] for stage in report.stages]


def _devices(report: Report) -> list[str]:
    """The further devices that stages were measured on."""
    found = dict.fromkeys(name for stage in report.stages for name in stage.details.get("speedups", {}))
    return list(found)


def _on(stage: StageReport, devices: list[str]) -> list[str]:
    """What a stage came to on each further device: its primary metric, its median latency, its speed-up."""
    shown = []
    for device in devices:
        own = {
            form_and_name(name)[1]: each
            for name, each in stage.measurements.items()
            if form_and_name(name)[0] == device
        }
        if not own:
            shown.append("–")
            continue
        faster = stage.details.get("speedups", {}).get(device)
        times = f"{own['latency_p50_ms'].value:.2f} ms" + (f" ({faster:.2f}x)" if faster is not None else "")
        quality = own.get(main_metric(stage.task, own))
        shown.append(f"{number(None if quality is None else quality.value)}, {times}")
    return shown


def _row(stage: StageReport, task: str) -> list[str]:
    measured = stage.measurements

    def show(metric: str, scale: float, form: str, unit: str = "") -> str:
        value = measured[metric].value if metric in measured else math.nan
        return "–" if math.isnan(value) else format(value / scale, form) + unit

    quality = score(measured.get(main_metric(stage.task, measured)))
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
    """Unit of the quantity that a gate compares; a ratio has none."""
    return metric_of(gate.metric).unit if gate.rule in ("min", "max", "max_drop") else ""


def gate_text(gate: GateResult) -> str:
    """A gate in one line: the observed value, its bounds and the limit."""
    relative = gate.relative_to is not None
    unit = gate_unit(gate)
    word = f"{_RULE_WORDS[gate.rule]} " if relative else ""
    against = f" relative to {gate.relative_to}" if relative else ""
    why = f"; no bound: {gate.unbounded}" if gate.unbounded is not None and gate.verdict == "inconclusive" else ""
    return (
        f"{gate.subject}: {word}{number(gate.observed, unit)} [{number(gate.low, unit)}, {number(gate.high, unit)}]"
        f" {_RULE_SIGNS[gate.rule]} {number(gate.limit, unit)}{against}{why}"
    )


def score(measured: Measurement | None) -> str:
    """A score with its bounds."""
    if measured is None or math.isnan(measured.value):
        return "–"
    return f"{measured.value:.4f} [{number(measured.low)}, {number(measured.high)}]"


def bound(value: float | None) -> str:
    """A bound with two digits."""
    return "–" if value is None else f"{value:.2f}"


def duration(seconds: float) -> str:
    """A duration in seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
