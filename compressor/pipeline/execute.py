"""`run`: the only loop over stages. Builds, measures, judges and publishes what a plan says."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from compressor import stages
from compressor.data.corpus import stream
from compressor.errors import StageError
from compressor.gates.judge import GateResult, judge, overall
from compressor.gates.metrics import QUANTIZED_PARITY
from compressor.gates.spec import REGRESSION
from compressor.host import BUILD_LIBRARIES, environment, versions
from compressor.measure.client import Client
from compressor.measure.trial import DeploymentTrial
from compressor.models.checkpoint import WEIGHTS, Checkpoint
from compressor.package import publish
from compressor.pipeline import lock, regression
from compressor.pipeline import plan as plan_module
from compressor.pipeline.code_digest import code_digest
from compressor.pipeline.corpus_sequences import PreparedCorpus
from compressor.pipeline.measuring import CONFIDENCE, Measured, Measurer, measurements, notes
from compressor.pipeline.plan import Plan, PlannedStage
from compressor.pipeline.prepared import Prepared, prepare
from compressor.pipeline.regression import OtherRun
from compressor.pipeline.store import Artifact, Store, key_of
from compressor.pipeline.task_rows import PreparedRows
from compressor.progress import Progress
from compressor.report import files, model_card
from compressor.report.model import Report, StageReport
from compressor.training.context import Context
from compressor.training.spec import TrainingSpec

_SPACE_FACTOR = 15
"""Disk that a run takes, in sizes of its checkpoint: two training states of three, the stages, their exports."""


def run(
    plan: Plan,
    store: Store,
    folder: Path,
    client: Client,
    progress: Progress,
    until: str | None = None,
    against: OtherRun | None = None,
    *,
    command: str | None = None,
    allow_inconclusive: bool = False,
) -> Report:
    """Runs a plan.

    Stops at the first stage with a failed gate: what follows would be built on what was refused.

    Args:
        plan: What to do.
        store: Where artifacts are kept.
        folder: Gets report.json and what is made of it, the lock and, unless a gate failed, `model/`.
        client: Runs the measuring processes.
        progress: Shows progress.
        until: Name of the last stage to run; None for all.
        against: Another run, whose model the last stage is compared with.
        command: What the user typed, for the report.
        allow_inconclusive: Whether inconclusive is to be taken for passed, for the report.

    Returns:
        The report, also written to `folder`.
    """
    start, started = time.monotonic(), datetime.now(UTC)
    _check_space(plan, store)
    runner = _Runner(plan, store, client, progress, against)
    steps = plan.steps
    if until is not None:
        steps = steps[: [step.name for step in steps].index(until) + 1]
    if against is not None:
        regression.check(against, plan, steps[-1], runner.labels(steps[-1].task))
    reports: list[StageReport] = []
    baselines: dict[str, StageReport] = {}
    last: _Result | None = None
    for step in steps:
        if step.task not in baselines:
            baselines[step.task] = runner.baseline(step)
        if step.defers_training and step is not steps[-1]:
            reports.append(runner.defers_training(step))
            continue
        last = runner.stage(step)
        reports.append(last.report)
        if last.report.verdict == "fail":
            break
    not_run = [step.name for step in steps[len(reports) :]]
    assert last is not None, "a recipe has at least one stage, and the last is measured"
    if against is not None:
        if last.report.verdict == "fail":
            not_run.append(REGRESSION)
        else:
            reports.append(runner.compare(against, steps[-1], last.measured))
    recipe = plan.resolved.recipe
    first = sorted(baselines.values(), key=lambda entry: entry.task != recipe.task)
    report = Report(
        recipe.name,
        recipe.task,
        round(time.monotonic() - start, 2),
        environment(),
        [*first, *reports],
        not_run,
        measure=recipe.measure.model_dump(mode="json"),
        command=command,
        started=started.isoformat(timespec="seconds"),
        allow_inconclusive=allow_inconclusive,
    )
    if store.follower:
        return report
    folder.mkdir(parents=True, exist_ok=True)
    card = model_card.render(report, last.entry.path)
    digest = publish.model(report, last.entry.path, folder, recipe.measure.runtime, card, last.measured.recorded)
    report = replace(report, manifest_sha256=digest)
    lock.write(plan, folder)
    report.write(folder / "report.json")
    files.write(report, folder, lock.text(folder / lock.LOCK_FILE))
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
    entry: Artifact
    report: StageReport
    measured: Measured


class _Runner:
    """One run: the plan, the store, and what was found so far."""

    def __init__(self, plan: Plan, store: Store, client: Client, progress: Progress, against: OtherRun | None) -> None:
        self.plan = plan
        self.store = store
        self.client = client
        self.progress = progress
        self.recipe = plan.resolved.recipe
        self.prepared: dict[str, PreparedRows | PreparedCorpus] = {}
        outside = {against.key: against.folder} if against else {}
        self.measurer = Measurer(self.recipe.measure, store, client, progress, outside)
        self.store.build(plan.source_inputs, self._take_source)
        self.seconds: dict[str, float] = {}
        self.built: dict[str, tuple[Artifact, bool]] = {}

    def _take_source(self, output: Path, work: Path) -> Mapping[str, Any]:
        """Copies the recipe's checkpoint, and nothing that lies beside it: an old export there is not the teacher."""
        assert self.plan.model is not None, "a run has its model"
        for name in Checkpoint(self.plan.model).digest():
            shutil.copyfile(self.plan.model / name, output / name)
        return {}

    def _prepared(self, task: str) -> PreparedRows | PreparedCorpus:
        if task not in self.prepared:
            self.prepared[task] = prepare(self.plan, task, self.store, self.progress)
        return self.prepared[task]

    def labels(self, task: str) -> tuple[str, ...]:
        """Names of the outputs of a task's head, in order."""
        return self._prepared(task).labels

    def build(self, step: PlannedStage) -> Artifact:
        """The stage's checkpoint, built if it is not in the store."""
        start = time.monotonic()
        source = self.store.folder(step.inputs["parent"])
        teacher = source if step.key == step.teacher else self.store.folder(step.teacher)
        prepared = self._prepared(step.task)

        def build(output: Path, work: Path) -> Mapping[str, Any]:
            context = Context(
                recipe=self.recipe.name,
                stage=step.name,
                key=step.key,
                task=step.task,
                pairs=self.recipe.data.text_pair is not None,
                teacher=teacher,
                student=step.student,
                labels=prepared.labels,
                seed=self.recipe.seed,
                tokenized=prepared.tokenized if isinstance(prepared, PreparedRows) else _no_data,
                packed=prepared.packed if isinstance(prepared, PreparedCorpus) else _no_data,
                texts=None if step.texts is None else partial(stream.counted, *step.texts),
                trial=DeploymentTrial(
                    self.recipe.measure, step.task, prepared.validation, prepared.labels, self.client
                ),
                memo=partial(self._memo, prepared),
                work=work,
                progress=self.progress,
            )
            return stages.get(step.spec.kind)(source, output, step.spec, context)

        if step.key not in self.built:
            together = isinstance(step.spec, TrainingSpec) and step.spec.trains
            self.built[step.key] = self.store.build(step.inputs, build, together)
        self.seconds[step.name] = self.seconds.get(step.name, 0.0) + time.monotonic() - start
        return self.built[step.key][0]

    def baseline(self, step: PlannedStage) -> StageReport:
        """Measures what the stages of a task are compared with, given the first of them, which may make it."""
        if step.key == step.baseline:
            self.build(step)
        start = time.monotonic()
        name = "baseline" if step.task == self.recipe.task else f"baseline ({step.task})"
        measured = self.measurer.measure(name, plan_module.baseline_measure(step), self._prepared(step.task))
        return StageReport(
            name=name,
            stage="baseline",
            task=step.task,
            verdict="pass",
            seconds=round(time.monotonic() - start, 2),
            from_cache=measured.from_cache and all(cached for _, cached in self.built.values()),
            measurements=measurements(measured.evidence),
            gates=[],
        )

    def stage(self, step: PlannedStage) -> _Result:
        """Builds, measures and judges a stage."""
        entry = self.build(step)
        built_from_cache = self.built[step.key][1]
        start = time.monotonic()
        recorded_rows = getattr(step.spec, "verification_rows", 0)
        measured = self.measurer.measure(
            step.name, step.measure_inputs, self._prepared(step.task), recorded_rows=recorded_rows
        )
        gates = self._judge(step, measured)
        latency = measured.evidence["latency_p50_ms"]
        baseline = measured.references["baseline"]["latency_p50_ms"]
        parity = {} if measured.parity is None else {"parity": measured.parity}
        told = [*entry.facts.get("notes", []), *notes(step.spec)]
        report = StageReport(
            name=step.name,
            stage=step.spec.kind,
            task=step.task,
            verdict=overall([gate.verdict for gate in gates]),
            seconds=round(self.seconds[step.name] + time.monotonic() - start, 2),
            from_cache=built_from_cache and measured.from_cache,
            measurements=measurements(measured.evidence),
            gates=gates,
            details={
                **entry.facts,
                **parity,
                **({"notes": told} if told else {}),
                "speedup": round(baseline.ratio(latency, CONFIDENCE).value, 3),
            },
        )
        return _Result(entry, report, measured)

    def defers_training(self, step: PlannedStage) -> StageReport:
        """Builds a stage that the next one trains."""
        entry = self.build(step)
        return StageReport(
            name=step.name,
            stage=step.spec.kind,
            task=step.task,
            verdict="pass",
            seconds=round(self.seconds[step.name], 2),
            from_cache=self.built[step.key][1],
            measurements={},
            gates=[],
            details=entry.facts,
        )

    def compare(self, against: OtherRun, step: PlannedStage, measured: Measured) -> StageReport:
        """Holds a stage against another run's model."""
        prepared = self._prepared(step.task)
        return regression.compare(against, step, measured, self.recipe.regression_gates, self.measurer, prepared)

    def _judge(self, step: PlannedStage, measured: Measured) -> list[GateResult]:
        results = []
        for metric, gate in step.spec.all_gates.items():
            if metric == QUANTIZED_PARITY and metric not in measured.evidence:
                continue  # a default, and at most one format is quantized
            against = {name: found[metric] for name, found in measured.references.items() if metric in found}
            results += judge(metric, gate, measured.evidence[metric], against)
        return results

    def _memo(
        self,
        prepared: Prepared,
        makers: Sequence[str],
        inputs: Mapping[str, Any],
        build: Callable[[Path], Mapping[str, Any]],
    ) -> Path:
        """Keeps a by-product of a stage in the store; what the data is goes without saying."""
        full = {
            **inputs,
            "kind": makers[0],
            "data": prepared.data.key,
            "code": [prepared.task_code, code_digest(*makers)],
            "versions": versions(BUILD_LIBRARIES),
        }
        return self.store.build(full, lambda output, work: build(output))[0].path


def _no_data(*_: Any) -> Any:
    raise AssertionError("a stage asked for rows of a corpus, or for sequences of rows")


def forget(plan: Plan, store: Store, against: OtherRun | None = None) -> None:
    """Drops a recipe's stages and measurements from the store, for `--fresh`."""
    for step in plan.steps:
        store.discard(step.key)
        store.discard(key_of(step.measure_inputs))
        store.discard(key_of(plan_module.baseline_measure(step)))
        if against is not None:
            store.discard(key_of(plan_module.run_measure(step, against.key)))
