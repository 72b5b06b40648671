"""A small report with numbers that can be worked out by hand, and a run's folder around it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from compressor.gates.judge import GateResult, Verdict, overall
from compressor.report.model import Measurement, Report, StageReport

HOSTILE = "<script>alert('x')</script> \"&amp; | `a` \x07"
"""What a name may try: HTML, quotes, an entity, a column of a table, a character that no XML can hold."""


def gate(
    metric: str = "accuracy",
    rule: str = "min",
    limit: float = 0.8,
    seen: tuple[float, float | None, float | None] = (0.9, 0.85, 0.95),
    verdict: Verdict = "pass",
) -> GateResult:
    against = None if rule in ("min", "max") else "baseline"
    return GateResult(metric, rule, limit, against, 0.95, *seen, verdict)


def measured(accuracy: float, p50: float, size: float, n: int = 1000) -> dict[str, Measurement]:
    """Accuracy within 0.02, latency within a tenth; sizes are exact."""
    return {
        "accuracy": Measurement(accuracy, "", n, accuracy - 0.02, accuracy + 0.02),
        "f1": Measurement(accuracy - 0.01, "", n, accuracy - 0.03, accuracy + 0.01),
        "latency_p50_ms": Measurement(p50, "ms", 200, 0.9 * p50, 1.1 * p50),
        "latency_p95_ms": Measurement(2 * p50, "ms", 200, 1.8 * p50, 2.2 * p50),
        "size_bytes": Measurement(size, "bytes", 1, size, size),
        "num_parameters": Measurement(size / 4, "parameters", 1, size / 4, size / 4),
        "quantized_coverage": Measurement(0.0, "", 1, 0.0, 0.0),
        "peak_rss_bytes": Measurement(2 * size, "bytes", 3, 1.9 * size, 2.1 * size),
    }


def stage(name: str, kind: str, numbers: tuple[float, float, float], *gates: GateResult, **details: Any) -> StageReport:
    verdict = overall([entry.verdict for entry in gates])
    return StageReport(name, kind, "text-classification", verdict, 2.5, False, measured(*numbers), list(gates), details)


PARITY = {
    "rows": 300,
    "no_token_types": "all zeros",
    "formats": {
        "torchscript": {
            "against": "torch",
            "label_agreement": 1.0,
            "max_abs_diff": 2.5e-6,
            "min_cosine": 0.9999999,
            "worst": "row 7",
        }
    },
}
SELECTION = {
    "kept": 1,
    "max_drop": 0.005,
    "float": 0.9,
    "quantized": 0.87,
    "chosen": 0.896,
    "matrices": [
        {"name": "encoder.0.query", "divergence": 0.002, "multiply_adds": 0.05, "size": 0.01},
        {"name": "encoder.1.query", "divergence": 0.001, "multiply_adds": 0.05, "size": 0.01},
    ],
}


def passing(**changes: Any) -> Report:
    """Baseline, a distilled student of half its cost, and an int8 one of a quarter: all gates pass."""
    curve = [[10, 0.8], [20, 0.5], [30, 0.2]]
    stages = [
        stage("baseline", "baseline", (0.90, 16.0, 80e6)),
        stage(
            "distill",
            "distill",
            (0.88, 8.0, 40e6),
            gate("accuracy", "min_retention", 0.95, (0.978, 0.96, 0.99)),
            gate("latency_p50_ms", "min_speedup", 1.6, (2.0, 1.9, 2.1)),
            loss=curve,
            terms={"soft": curve, "hard": [[10, 0.7], [20, 0.6], [30, 0.5]]},
            speedup=2.0,
        ),
        stage(
            "quantize",
            "quantize",
            (0.87, 4.0, 10e6),
            gate("size_bytes", "max", 12e6, (10e6, 10e6, 10e6)),
            parity=PARITY,
            selection=SELECTION,
            notes=["Zeros do not change latency."],
            speedup=4.0,
        ),
    ]
    report = Report(
        "small",
        "text-classification",
        123.4,
        {"python": "3.11.7", "cpu": "of some kind", "cores": 2},
        stages,
        [],
        manifest_sha256="ab" * 32,
        measure={"runtime": "onnxruntime", "threads": 1, "batch_size": 1, "sequence_length": 64, "runs": 200},
        command="compress run small.yaml --set 'stages.distill.epochs=3'",
        started="2026-11-22T10:20:30+00:00",
    )
    return replace(report, **changes)


def failing(**changes: Any) -> Report:
    """A student that is too bad for certain, and whose latency is inconclusive; the rest was not run."""
    first, student, _ = passing().stages
    gates = [
        gate("accuracy", "min_retention", 0.95, (0.92, 0.90, 0.94), "fail"),
        gate("latency_p95_ms", "max", 20.0, (16.0, 12.0, None), "inconclusive"),
        gate("size_bytes", "max", 50e6, (40e6, 40e6, 40e6)),
    ]
    student = replace(student, gates=gates, verdict="fail")
    return passing(stages=[first, student], not_run=["quantize", "export"], manifest_sha256=None, **changes)


def undecided(**changes: Any) -> Report:
    """A student that may be good enough, or not."""
    first, student, _ = passing().stages
    gates = [gate("accuracy", "min", 0.87, (0.88, 0.86, 0.90), "inconclusive"), gate()]
    return passing(stages=[first, replace(student, gates=gates, verdict="inconclusive")], **changes)


def hostile() -> Report:
    """A run all of whose words try to break out of where they are written."""
    stages = [
        replace(entry, name=f"{entry.name} {HOSTILE}", details={**entry.details, "notes": [HOSTILE]})
        for entry in failing().stages
    ]
    return replace(failing(), stages=stages, environment={"cpu": HOSTILE, HOSTILE: "x"}, not_run=[HOSTILE])


def run_folder(folder: Path, report: Report) -> Path:
    """The report as a run leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    report.write(folder / "report.json")
    (folder / "recipe.lock.yaml").write_text("recipe: {name: small}  # <b>lock</b>\n", encoding="utf-8")
    return folder
