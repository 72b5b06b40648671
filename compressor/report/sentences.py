"""Words the verdict: the result, which gates failed and by how much, and what to do about it."""

from __future__ import annotations

import math
from collections import Counter

from compressor.gates.judge import AT_LEAST, GateResult, StageGate
from compressor.gates.metrics import QUALITY_KINDS, metric_of
from compressor.report.model import Measurement, Report
from compressor.report.numbers import SIGNS, gate_unit, number, quality_metric

_REFERENCES = {
    "baseline": "the baseline",
    "previous": "the stage before",
    "run": "the other run",
    "float": "the same format in float",
}


def headline(report: Report) -> str:
    """The verdict in a sentence."""
    gates = [entry.result for entry in report.gates]
    counts = Counter(gate.verdict for gate in gates)
    of = f" of {_count(len(gates), 'gate')}"
    if not gates:
        text = "There are no gates."
    elif report.verdict == "pass":
        text = f"All {_count(len(gates), 'gate')} pass." if len(gates) > 1 else "The only gate passes."
    else:
        parts = []
        if counts["fail"]:
            parts.append(f"{counts['fail']}{of} {'fails' if counts['fail'] == 1 else 'fail'}")
        if counts["inconclusive"]:
            open_gates = counts["inconclusive"]
            parts.append(f"{open_gates}{'' if parts else of} {'is' if open_gates == 1 else 'are'} inconclusive")
        text = ", ".join(parts) + "."
    if report.verdict == "inconclusive" and report.allow_inconclusive:
        text += " The run accepts inconclusive gates (--allow-inconclusive)."
    return f"{text} {not_run(report)}".strip()


def not_run(report: Report) -> str:
    """The stages that were not run, and why, in a sentence or two; empty if all were."""
    if not report.not_run:
        return ""
    names, reason = ", ".join(report.not_run), why_not_run(report)
    note = "" if report.verdict == "fail" else " The run is partial, and publishes no model."
    return f"Not run {reason}: {names}.{note}"


def why_not_run(report: Report) -> str:
    """What stopped a run before its last stage."""
    return (
        "after the failed gate"
        if report.until is None or report.verdict == "fail"
        else f"after {report.until} (--until)"
    )


def result(report: Report) -> str:
    """The last stage's measurements beside the baseline's, in a sentence; empty if either is missing."""
    metric = quality_metric(report)
    first = [stage for stage in report.stages if stage.stage == "baseline"]
    measured = [s for s in (*first, *report.built) if s.task == report.task and metric in s.measurements]
    if not measured or measured[0].stage != "baseline" or len(measured) == 1:
        return ""
    before, after = measured[0].measurements, measured[-1].measurements
    parts = [
        f"{name} {number(after[key].value, after[key].unit)} (baseline {number(before[key].value, before[key].unit)})"
        for key, name in ((metric, metric), ("latency_p50_ms", "p50"), ("size_bytes", "size"))
        if key in before and key in after
    ]
    return f"After {measured[-1].name}: {', '.join(parts)}."


def open_gates(report: Report) -> list[StageGate]:
    """Gates that do not pass: the failed ones, then the inconclusive ones."""
    return [entry for verdict in ("fail", "inconclusive") for entry in report.gates if entry.result.verdict == verdict]


def gate(entry: StageGate) -> str:
    """A gate in a sentence or two: the observed value, the limit, by how much it was missed, and what to do."""
    result = entry.result
    return f"{entry.stage}: {_observed(result)}; {_required(result)}.{_missed(result)}"


def _observed(gate: GateResult) -> str:
    against = _REFERENCES.get(gate.relative_to or "", gate.relative_to)
    value = _value(gate, gate.observed)
    low, high = ("unknown" if bound is None else _value(gate, bound) for bound in (gate.low, gate.high))
    if gate.low is None and gate.high is None:
        bounds = " (no bounds)"
    else:
        bounds = "" if gate.low == gate.high else f" ({low} to {high})"
    shown = {
        "max_drop": f"{gate.subject} is {value} below {against}'s",
        "min_retention": f"{gate.subject} is {value} of {against}'s",
        "min_speedup": f"{gate.subject} shows {value} times the speed of {against}",
        "max_ratio": f"{gate.subject} is {value} of {against}'s",
    }.get(gate.rule, f"{gate.subject} is {value}")
    return shown + bounds


def _required(gate: GateResult) -> str:
    word = "at least" if gate.rule in AT_LEAST else "at most"
    return f"{word} {_value(gate, gate.limit)} is required"


def _missed(gate: GateResult) -> str:
    if gate.verdict == "pass":
        return ""
    sign = 1 if gate.rule in AT_LEAST else -1
    if gate.verdict == "inconclusive":
        return f" {_why_open(gate)}"
    best, side = (gate.high, "upper") if gate.rule in AT_LEAST else (gate.low, "lower")
    text = f" Missed by {_value(gate, sign * (gate.limit - gate.observed))}"
    if best is not None and best != gate.observed:
        text += f", and by {_value(gate, sign * (gate.limit - best))} even at the {side} bound"
    return text + "."


def _why_open(gate: GateResult) -> str:
    kind = metric_of(gate.metric).kind
    what = "timed runs (measure.runs)" if kind == "latency" else "validation rows" if kind in QUALITY_KINDS else ""
    more = f"; use more {what}" if what else ""
    if gate.unbounded is not None and (gate.low is None or gate.high is None):
        return f"There is no bound: {gate.unbounded}{more}."
    if math.isnan(gate.observed):
        return "The value is undefined and cannot be compared with the limit."
    if gate.relative_to == "float":
        return (
            "It is not shown to be faster than the same format in float; if it ships for its size, say size_only: "
            f"true, else use more {what}."
        )
    if gate.low is None or gate.high is None:
        return f"There are too few observations for a bound{more}."
    return f"The limit lies between the bounds{more}."


def _value(gate: GateResult, value: float) -> str:
    if gate.rule == "min_retention" and not math.isnan(value):
        return f"{100 * value:.2f} %"
    return number(value, gate_unit(gate))


def measured(name: str, found: Measurement) -> str:
    """A measurement in words, with its bounds."""
    bounds = ""
    if found.low is not None and found.high is not None and found.low != found.high:
        bounds = f" ({number(found.low, found.unit)} to {number(found.high, found.unit)})"
    return f"{name} {number(found.value, found.unit)}{bounds}"


def badge(verdict: str) -> str:
    """A verdict with a sign, so that it does not depend on colour."""
    return {"pass": "✓ ", "fail": "✗ ", "inconclusive": "? "}.get(verdict, "") + SIGNS.get(verdict, verdict)


def conditions(report: Report) -> str:
    """How stages were measured, in a sentence; empty for older reports, which do not record it."""
    spec = report.measure
    if not {"runtime", "threads", "batch_size", "sequence_length", "runs"} <= set(spec):
        return ""
    threads = _count(int(spec["threads"]), "thread")
    return (
        f"Measured with {spec['runtime']} on {threads}, batch size {spec['batch_size']}, sequence length "
        f"{spec['sequence_length']}, {spec['runs']} timed runs."
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
