"""`run`: the only loop over stages. Builds, measures, judges and publishes what a plan says."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressor import plan as planning
from compressor import publish, stages
from compressor.checkpoint import WEIGHTS, Checkpoint
from compressor.context import Context
from compressor.errors import StageError
from compressor.evidence import Evidence
from compressor.fingerprint import BUILD_LIBRARIES, code_digest, environment, versions
from compressor.gates import GateResult, judge, overall
from compressor.measure import checkpoint as measuring
from compressor.metrics import METRICS
from compressor.plan import Plan, Step
from compressor.prepared import PreparedRows
from compressor.progress import Progress
from compressor.recipe import StageSpec, TrainingSpec
from compressor.report import text
from compressor.report.model import Measurement, Report, StageReport
from compressor.runtimes import RUNTIMES
from compressor.store import Entry, Store, key_of

_CONFIDENCE = 0.95
_SPACE_FACTOR = 15
"""Disk that a run takes, in sizes of its checkpoint: two training states of three, the stages, their exports."""


def run(plan: Plan, store: Store, folder: Path, progress: Progress, until: str | None = None) -> Report:
    """Runs a plan.

    Stops at the first stage with a failed gate: what follows would be built on what was refused.

    Args:
        plan: What to do.
        store: Where artifacts are kept.
        folder: Gets report.json, report.md, the lock and, unless a gate failed, `model/`.
        progress: Tells the user.
        until: Name of the last stage to run; None for all.

    Returns:
        The report, also written to `folder`.
    """
    start = time.monotonic()
    _check_space(plan, store)
    runner = _Runner(plan, store, progress)
    steps = plan.steps
    if until is not None:
        steps = steps[: [step.name for step in steps].index(until) + 1]
    reports = []
    last: Entry | None = None
    if plan.resolved.makes_teacher:
        runner.build(steps[0])
    reports.append(runner.baseline())
    for step in steps:
        result = runner.stage(step)
        reports.append(result.report)
        last = result.entry
        if result.report.verdict == "fail":
            break
    not_run = [step.name for step in steps[len(reports) - 1 :]]
    report = Report(plan.resolved.recipe.name, round(time.monotonic() - start, 2), environment(), reports, not_run)
    assert last is not None, "a recipe has at least one stage"
    if store.follower:
        return report
    folder.mkdir(parents=True, exist_ok=True)
    publish.model(report, last.path, folder)
    planning.write_lock(plan, folder)
    report.write(folder / "report.json")
    text.write_markdown(report, folder / "report.md")
    return report


def _check_space(plan: Plan, store: Store) -> None:
    assert plan.model is not None, "a run has its model"
    if all(store.get(step.key) for step in plan.steps):
        return
    needed = _SPACE_FACTOR * (plan.model / WEIGHTS).stat().st_size
    store.root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(store.root).free
    if free < needed:
        raise StageError(
            f"{store.root} has {free / 1e9:.1f} GB free, a run of this recipe takes up to {needed / 1e9:.1f} GB; "
            "free some space, delete old artifacts there, or choose another disk with --artifacts"
        )


@dataclass(frozen=True)
class _Result:
    entry: Entry
    report: StageReport


@dataclass(frozen=True)
class _Measured:
    """A measurement and where its raw evidence is."""

    entry: Entry
    from_cache: bool
    references: NDArray[np.int64]


class _Runner:
    """One run: the plan, the store, and what was found so far."""

    def __init__(self, plan: Plan, store: Store, progress: Progress) -> None:
        self.plan = plan
        self.store = store
        self.progress = progress
        self.recipe = plan.resolved.recipe
        self.rows = PreparedRows(plan, store, progress)
        self.store.build(plan.source_inputs, self._take_source)
        self.seconds: dict[str, float] = {}
        self.built: dict[str, tuple[Entry, bool]] = {}
        self.evidence: dict[str, dict[str, Evidence]] = {}

    def _take_source(self, output: Path, work: Path) -> Mapping[str, Any]:
        """Copies the recipe's checkpoint, and nothing that lies beside it: an old export there is not the teacher."""
        assert self.plan.model is not None, "a run has its model"
        for name in Checkpoint(self.plan.model).digest():
            shutil.copyfile(self.plan.model / name, output / name)
        return {}

    def folder(self, key: str) -> Path:
        """Folder of a checkpoint: the recipe's own, or a stage's."""
        entry = self.store.get(key)
        assert entry is not None, "stages are built in order"
        return entry.path

    def build(self, step: Step) -> Entry:
        """The stage's checkpoint, built if it is not in the store."""
        start = time.monotonic()
        source = self.folder(step.inputs["parent"])
        teacher = source if step.key == self.plan.baseline_key else self.folder(self.plan.baseline_key)

        def build(output: Path, work: Path) -> Mapping[str, Any]:
            context = Context(
                teacher=teacher,
                labels=self.rows.labels,
                seed=self.recipe.seed,
                tokenized=self.rows.tokenized,
                memo=self._memo,
                work=work,
                progress=self.progress,
            )
            named: StageSpec = step.spec.model_copy(update={"name": step.name})
            return stages.get(step.spec.kind)(source, output, named, context)

        if step.key not in self.built:
            together = isinstance(step.spec, TrainingSpec)
            self.built[step.key] = self.store.build(step.inputs, build, together)
        self.seconds[step.name] = self.seconds.get(step.name, 0.0) + time.monotonic() - start
        return self.built[step.key][0]

    def baseline(self) -> StageReport:
        """Measures the teacher."""
        start = time.monotonic()
        key = self.plan.baseline_key
        measured = self._measure("baseline", key, self.plan.baseline_measure)
        found = self._evidence(key, measured)
        return StageReport(
            name="baseline",
            stage="baseline",
            verdict="pass",
            seconds=round(time.monotonic() - start, 2),
            from_cache=measured.from_cache and all(cached for _, cached in self.built.values()),
            measurements=_measurements(found),
            gates=[],
        )

    def stage(self, step: Step) -> _Result:
        """Builds, measures and judges a stage."""
        entry = self.build(step)
        built_from_cache = self.built[step.key][1]
        start = time.monotonic()
        measured = self._measure(step.name, step.key, step.measure_inputs)
        found = self._evidence(step.key, measured)
        gates = self._judge(step, measured, found)
        latency = found["latency_p50_ms"]
        baseline = self._against(measured, "baseline", self.plan.baseline_key)["latency_p50_ms"]
        report = StageReport(
            name=step.name,
            stage=step.spec.kind,
            verdict=overall([gate.verdict for gate in gates]),
            seconds=round(self.seconds[step.name] + time.monotonic() - start, 2),
            from_cache=built_from_cache and measured.from_cache,
            measurements=_measurements(found),
            gates=gates,
            details={**entry.facts, "speedup": round(baseline.ratio(latency, _CONFIDENCE).value, 3)},
        )
        return _Result(entry, report)

    def _judge(self, step: Step, measured: _Measured, found: Mapping[str, Evidence]) -> list[GateResult]:
        keys = {"baseline": self.plan.baseline_key, "previous": step.measure_inputs["previous"]}
        references = {name: self._against(measured, name, key) for name, key in keys.items()}
        results = []
        for metric, gate in step.spec.all_gates.items():
            against = {name: evidence[metric] for name, evidence in references.items() if metric in evidence}
            results += judge(metric, gate, found[metric], against)
        return results

    def _against(self, measured: _Measured, name: str, key: str) -> dict[str, Evidence]:
        """A reference's evidence: its own, but its timings from the process that timed the stage too."""
        timed = measuring.evidence(measured.entry.path, measured.entry.facts, self.rows.task, measured.references, name)
        return {**self.evidence.get(key, {}), **timed}

    def _evidence(self, key: str, measured: _Measured) -> dict[str, Evidence]:
        self.evidence[key] = measuring.evidence(
            measured.entry.path, measured.entry.facts, self.rows.task, measured.references
        )
        return self.evidence[key]

    def _measure(self, name: str, key: str, inputs: dict[str, Any]) -> _Measured:
        folder = self.folder(key)
        rows, references = self.rows.validation(folder)

        def build(output: Path, work: Path) -> Mapping[str, Any]:
            subject = measuring.Subject(name, folder, self._deployed(name, key))
            others = {
                "baseline": self._deployed("baseline", inputs["baseline"]),
                "previous": self._deployed("previous", inputs["previous"]),
            }
            return measuring.measure(subject, others, rows, self.recipe.measure, output, self.progress)

        entry, from_cache = self.store.build(inputs, build)
        return _Measured(entry, from_cache, references)

    def _deployed(self, name: str, key: str) -> Path:
        """The file of a checkpoint that ships for the measured runtime; exported for measuring if no stage did."""
        runtime = self.recipe.measure.runtime
        folder = self.folder(key)
        if (path := measuring.deployed_file(folder, runtime)) is not None:
            return path
        file = RUNTIMES[runtime].file.name

        def build(output: Path, work: Path) -> Mapping[str, Any]:
            with self.progress.step(f"{name}: exporting for {runtime}"):
                RUNTIMES[runtime].export(folder, output / file)
            return {}

        inputs = {
            "kind": "deploy",
            "checkpoint": key,
            "runtime": runtime,
            "code": code_digest("compressor.runtimes"),
            "versions": versions(BUILD_LIBRARIES),
        }
        return self.store.build(inputs, build)[0].path / file

    def _memo(self, maker: str, inputs: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
        """Keeps a by-product of a stage in the store; what the data is goes without saying."""

        def fill(output: Path, work: Path) -> Mapping[str, Any]:
            build(output)
            return {}

        full = {
            **inputs,
            "kind": maker,
            "data": self.plan.data_key,
            "code": [self.rows.task_code, code_digest(maker)],
            "versions": versions(BUILD_LIBRARIES),
        }
        return self.store.build(full, fill)[0].path


def _measurements(found: Mapping[str, Evidence]) -> dict[str, Measurement]:
    measurements = {}
    for name, evidence in found.items():
        estimate = evidence.estimate(_CONFIDENCE)
        unit = METRICS[name].unit
        measurements[name] = Measurement(estimate.value, unit, evidence.n, estimate.low, estimate.high)
    return measurements


def forget(plan: Plan, store: Store) -> None:
    """Drops a recipe's stages and measurements from the store, for `--fresh`."""
    for step in plan.steps:
        store.discard(step.key)
        store.discard(key_of(step.measure_inputs))
    store.discard(key_of(plan.baseline_measure))
