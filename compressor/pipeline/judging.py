"""Judges a stage's measurements, here and on further devices."""

from __future__ import annotations

from collections.abc import Mapping

from compressor.gates.judge import GateResult, judge_measured
from compressor.gates.metrics import metric_of, of_file
from compressor.pipeline.measuring import CONFIDENCE, Measured, MeasuredFormat, measurements
from compressor.pipeline.planned_stage import PlannedStage
from compressor.report.model import Measurement


def judge(stage: PlannedStage, measured: Measured, others: Mapping[str, Measured], noisy: int) -> list[GateResult]:
    """Judges a stage's gates: of its checkpoint, of its files that ship, and of further devices.

    Args:
        stage: The stage.
        measured: Its measurement.
        others: Its measurements on further devices, by their names.
        noisy: Gates of the run that noise could make fail.
    """
    results = []
    files: dict[str, Measured | MeasuredFormat] = {form.name: form for form in measured.formats}
    files |= others
    for name, gate in stage.gates:
        subject = files[form] if (form := metric_of(name).form) else measured
        metric = metric_of(name).name
        if metric_of(name).kind == "parity" and metric not in subject.evidence:
            continue  # a default gate: the formats may all be floating point, or all quantized
        results += judge_measured(name, gate, subject.evidence, subject.references, noisy)
    return results


def of_devices(others: Mapping[str, Measured]) -> dict[str, Measurement]:
    """What was measured on further devices, by the names that gates have for it."""
    return {
        of_file(device, name): found
        for device, measured in others.items()
        for name, found in measurements({each: measured.evidence[each] for each in measured.on_device}).items()
    }


def speedup(measured: Measured) -> float:
    """Speed of a stage in times of the baseline's."""
    latency = measured.evidence["latency_p50_ms"]
    return round(measured.references["baseline"]["latency_p50_ms"].ratio(latency, CONFIDENCE).value, 3)
