"""The report of a run: the contents of report.json, schema_version 1."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from compressor.errors import ExitCode, Problem, RecipeError
from compressor.files import write_atomic
from compressor.gates.judge import EXIT_CODES, GateResult, StageGate, Verdict, overall
from compressor.gates.metrics import RULES, is_metric
from compressor.gates.spec import REGRESSION
from compressor.tasks import TASKS

SCHEMA_VERSION = 1
_OPTIONAL = ("manifest_sha256", "measure", "command", "started", "allow_inconclusive", "notes", "until", "lock_sha256")
"""Keys that older reports lack."""

LATENCIES = ("latency_p50_ms", "latency_p95_ms")
"""The metrics that devices are timed by."""

COMPARED = ("baseline", REGRESSION)
"""Kinds of entries that are not stages of the recipe: the teacher, and the model of another run."""


@dataclass(frozen=True)
class Measurement:
    """One measured metric.

    Attributes:
        value: The value.
        unit: Its unit; `""` for a share.
        n: Observations behind it.
        low: Lower bound, one-sided at 95 %; None when there is none.
        high: Upper bound, one-sided at 95 %; None when there is none.
    """

    value: float
    unit: str
    n: int
    low: float | None
    high: float | None


@dataclass(frozen=True)
class StageReport:
    """One stage of a run. The first is the baseline; after the last may come the comparison with another run.

    Attributes:
        name: The stage's name.
        stage: Its kind, or `baseline`, or `regression`: measurements of another run's model, gates of the last stage.
        task: What its checkpoint does: the recipe's task, or masked-lm while it is pretrained.
        verdict: Worst of its gates.
        seconds: Time it took in this run, measuring included.
        from_cache: Whether both its checkpoint and its measurements were there already.
        measurements: By metric.
        gates: One per rule.
        details: Facts of the stage's work, such as the layers it kept and its loss curve.
    """

    name: str
    stage: str
    task: str
    verdict: Verdict
    seconds: float
    from_cache: bool
    measurements: Mapping[str, Measurement]
    gates: list[GateResult]
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FormatReport:
    """A file that ships.

    Attributes:
        name: The name in gates, such as `onnx_int8`.
        path: The file, in `model/`.
        precision: What its weights are stored in: `float32`, `fp16`, `int8` or `int4`.
        ran: Whether it was run on this machine; else nothing is claimed of it but that it was converted.
        measurements: By metric, on `rows` rows.
        parity: Its comparison with its reference; empty where it is a reference itself.
        verdict: Worst of its gates.
        rows: Rows that it answered, evenly spread over all; None for all.
        speedup_over_float: Its speed in times of the same format in float; None where it has no such form.
        saturation: Its products that are clipped on some processors, see `compressor.runtimes.onnx.saturation`; empty
            where there are none, None where that is not known, and in older reports.
    """

    name: str
    path: str
    precision: str
    ran: bool
    measurements: Mapping[str, Measurement]
    parity: Mapping[str, Any]
    verdict: Verdict
    rows: int | None = None
    speedup_over_float: float | None = None
    saturation: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class DeviceFileReport:
    """A file that ships, as a device ran it.

    Attributes:
        digest: The SHA-256 of the file that ran.
        rows: Recorded rows that it answered.
        label_agreement: Share of the answers that are the recorded ones.
        max_abs_diff: Largest difference from a recorded logit.
        latency_p50_ms: Median time of a call.
        latency_p95_ms: Time that 95 % of the calls stay below.
    """

    digest: str
    rows: int
    label_agreement: float
    max_abs_diff: float
    latency_p50_ms: Measurement
    latency_p95_ms: Measurement


@dataclass(frozen=True)
class DeviceReport:
    """A device that ran what ships, after the run.

    Attributes:
        kind: How it was reached, such as `browser`.
        description: What it is and how it ran the files, such as its threads.
        files: By the file's name in gates, such as `onnx_int8`.
    """

    kind: str
    description: Mapping[str, str | int]
    files: Mapping[str, DeviceFileReport]


@dataclass(frozen=True)
class Report:
    """A run.

    Attributes:
        recipe: The recipe's name.
        task: The recipe's task.
        seconds: Time of the whole run.
        environment: Versions and machine.
        stages: Baseline first.
        not_run: Names of stages after a failed gate, or after the last that was asked for.
        manifest_sha256: Digest of `model/manifest.json`; None where there is none.
        measure: The recipe's measuring conditions, such as `sequence_length`; empty in older reports.
        command: The command that ran it; None in older reports.
        started: When, in UTC as ISO 8601; None in older reports.
        allow_inconclusive: Whether inconclusive gates count as passed.
        notes: Remarks on the run as a whole, such as what was damaged in the store; empty in older reports.
        until: The last stage that was asked for, where it is not the recipe's last: such a run publishes no model.
        lock_sha256: Digest of `recipe.lock.yaml`; None in older reports.
        formats: Each file that ships; empty where the run has none, and in older reports.
        devices: Devices that ran what ships, by name; see `compressor.report.devices`.
    """

    recipe: str
    task: str
    seconds: float
    environment: Mapping[str, str | int]
    stages: list[StageReport]
    not_run: list[str]
    manifest_sha256: str | None = None
    measure: Mapping[str, str | int] = field(default_factory=dict)
    command: str | None = None
    started: str | None = None
    allow_inconclusive: bool = False
    notes: list[str] = field(default_factory=list)
    until: str | None = None
    lock_sha256: str | None = None
    formats: list[FormatReport] = field(default_factory=list)
    devices: Mapping[str, DeviceReport] = field(default_factory=dict)

    @property
    def built(self) -> list[StageReport]:
        """The recipe's own stages: all entries except those of `COMPARED`."""
        return [stage for stage in self.stages if stage.stage not in COMPARED]

    @property
    def gates(self) -> list[StageGate]:
        """The gates of all stages."""
        return [StageGate(stage.name, gate) for stage in self.stages for gate in stage.gates]

    @property
    def verdict(self) -> Verdict:
        """Worst of the stages' verdicts."""
        return overall([stage.verdict for stage in self.stages])

    @property
    def exit_code(self) -> ExitCode:
        """The command's exit code for this verdict."""
        allowed = self.verdict == "inconclusive" and self.allow_inconclusive
        return ExitCode.PASS if allowed else EXIT_CODES[self.verdict]

    def text(self) -> str:
        """The text of report.json."""
        document = {"schema_version": SCHEMA_VERSION, "verdict": self.verdict, **asdict(self)}
        if not self.devices:
            del document["devices"]
        return json.dumps(finite(document), indent=2) + "\n"

    def write(self, path: Path) -> None:
        """Writes report.json."""
        write_atomic(path, self.text())


def report_file(path: Path) -> Path:
    """The report.json of a run that is given as its folder or as the file."""
    return path / "report.json" if path.is_dir() else path


def read(path: Path) -> Report:
    """Reads report.json.

    Args:
        path: The file, or the run's folder.

    Raises:
        RecipeError: It is not a report of this version.
    """
    path = report_file(path)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        json.dumps(document, ensure_ascii=False).encode()  # a lone surrogate, which no file can hold, is an error
        if document["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema_version is {document['schema_version']}, can read {SCHEMA_VERSION}")
        return Report(
            document["recipe"],
            _task(document["task"]),
            document["seconds"],
            document["environment"],
            [_stage(entry) for entry in document["stages"]],
            document["not_run"],
            formats=[
                FormatReport(**{**entry, "measurements": _measurements(entry)}) for entry in document.get("formats", [])
            ],
            devices={name: _device(entry) for name, entry in document.get("devices", {}).items()},
            **{name: document[name] for name in _OPTIONAL if name in document},
        )
    except FileNotFoundError:
        kind, what = "not_found", "there is no such file"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        kind, what = "unreadable", f"not a report ({type(error).__name__}: {error})"
    hint = "give a run's folder, artifacts/<recipe>, or its report.json"
    raise RecipeError([Problem(str(path), what, hint, kind=kind)])


def _stage(entry: Mapping[str, Any]) -> StageReport:
    measurements, gates = _measurements(entry), [_gate(gate) for gate in entry["gates"]]
    return StageReport(**{**entry, "task": _task(entry["task"]), "measurements": measurements, "gates": gates})


def _device(entry: Mapping[str, Any]) -> DeviceReport:
    files = {}
    for name, found in entry["files"].items():
        times = _measurements({"measurements": {metric: found[metric] for metric in LATENCIES}})
        numbers = {key: float(found[key]) for key in ("label_agreement", "max_abs_diff")}
        files[name] = DeviceFileReport(**{**found, **numbers, **times})
    return DeviceReport(**{**entry, "files": files})


def _measurements(entry: Mapping[str, Any]) -> dict[str, Measurement]:
    return {
        name: Measurement(**{**found, "value": _number(found["value"])})
        for name, found in entry["measurements"].items()
    }


def _task(name: str) -> str:
    if name not in TASKS:
        raise ValueError(f"no such task: {name}")
    return name


def _gate(entry: Mapping[str, Any]) -> GateResult:
    if not is_metric(entry["metric"]) or entry["rule"] not in RULES:
        raise ValueError(f"no such gate: {entry['metric']}: {entry['rule']}")
    return GateResult(**{**entry, "observed": _number(entry["observed"])})


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def finite(value: Any) -> Any:
    """The value with null for each undefined number: JSON has no NaN."""
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
