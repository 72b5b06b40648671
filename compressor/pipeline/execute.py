"""`run`: the only loop over stages. Builds, measures and judges each stage of a plan, and publishes the last one."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from compressor.errors import StageError
from compressor.files import SealedFolder
from compressor.gates.judge import comparisons, overall
from compressor.gates.spec import REGRESSION
from compressor.host.machine import environment
from compressor.measure import device_facts
from compressor.measure.client import Client
from compressor.models.checkpoint import Checkpoint
from compressor.package import publish
from compressor.pipeline import judging, label_gates, lock, regression
from compressor.pipeline.building import Builder
from compressor.pipeline.entry import key_of
from compressor.pipeline.measuring import (
    Measured,
    Measurer,
    formats_of,
    measurements,
    notes,
)
from compressor.pipeline.plan import Plan
from compressor.pipeline.planned_stage import PlannedStage
from compressor.pipeline.regression import OtherRun
from compressor.pipeline.store import Store
from compressor.progress import Progress
from compressor.report.model import Report, StageReport
from compressor.tasks.scoring.per_label import names_of

_SPACE_FACTOR = 15
"""Disk that a run takes, in sizes of its checkpoint: three training states, the stages, their exports."""


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

    Stops at the first stage with a failed gate, since later stages would start from a rejected checkpoint.

    Args:
        plan: The plan.
        store: Keeps artifacts.
        folder: Gets report.json and the reports made of it, the lock and, unless a gate failed or stages are left
            out, `model/`; the caller holds its lock.
        client: Runs the measuring processes.
        progress: Shows progress.
        until: Name of the last stage to run; None for all.
        against: Another run, whose model the last stage is compared with.
        command: The command line, for the report.
        allow_inconclusive: Whether an inconclusive verdict counts as passed, for the report.

    Returns:
        The report, also written to `folder`.
    """
    start, started = time.monotonic(), datetime.now(UTC)
    recipe, stages = plan.resolved.recipe, _until(plan.stages, until)
    _check_space(plan, store)
    for there in (client, *(client.on(device, name) for name, device in recipe.measure.devices.items())):
        there.check(recipe.measure.runtime)  # before hours of training, not after
    builder = Builder(plan, store, client, progress)
    builder.check(stages)
    own = builder.prepared(recipe.task) if any(stage.task == recipe.task for stage in stages) else None
    of_labels = label_gates.wanted(plan, stages, own) if own is not None else ()
    outside = {against.key: against.folder} if against else {}
    in_brackets = (*of_labels, *recipe.metrics_of_smaller_vectors)
    measurer = Measurer(recipe.measure, store, client, progress, outside, in_brackets)
    elsewhere = {
        name: Measurer(recipe.measure.on(name), store, client.on(device, name), progress, outside, in_brackets)
        for name, device in recipe.measure.devices.items()
    }
    if against is not None:
        regression.check(against, plan, stages[-1], builder.prepared(stages[-1].task).labels)

    every = ({metric: gate} for stage in stages for metric, gate in stage.gates)
    noisy = comparisons(every, len(names_of(own.task, own.labels)) if own is not None else 1)
    baselines: dict[str, StageReport] = {}
    reports: list[StageReport] = []
    last: _Result | None = None
    for stage in stages:
        if stage.task not in baselines or stage.key == stage.baseline:
            baselines[stage.task] = _baseline(stage, recipe.task, builder, measurer, elsewhere)
        if stage.defers_training and stage is not stages[-1]:
            reports.append(_unmeasured(stage, builder))
            continue
        last = _measured(stage, builder, measurer, elsewhere, noisy)
        reports.append(last.report)
        if last.report.verdict == "fail":
            break
    assert last is not None, "a recipe has at least one stage, and the last is measured"

    not_run = [stage.name for stage in plan.stages[len(reports) :]]
    if against is not None and last.report.verdict == "fail":
        not_run.append(REGRESSION)
    elif against is not None:
        prepared = builder.prepared(stages[-1].task)
        gates = recipe.regression_gates
        reports.append(regression.compare(against, stages[-1], last.measured, gates, measurer, prepared))

    own_baseline_first = sorted(baselines.values(), key=lambda entry: entry.task != recipe.task)
    report = Report(
        recipe.name,
        recipe.task,
        round(time.monotonic() - start, 2),
        {**environment(), **device_facts.described(recipe.measure)},
        [*own_baseline_first, *reports],
        not_run,
        measure=recipe.measure.conditions(),
        command=command,
        started=started.isoformat(timespec="seconds"),
        allow_inconclusive=allow_inconclusive,
        notes=store.notes,
        formats=formats_of(last.measured, last.report.gates),
        until=None if len(stages) == len(plan.stages) else until,
    )
    if store.follower:
        return report
    runtime, measured = recipe.measure.runtime, last.measured.files
    return publish.publish(report, last.checkpoint, folder, runtime, measured, lock.render(plan))


def _until(stages: Sequence[PlannedStage], name: str | None) -> list[PlannedStage]:
    """The stages up to one of them; all for None."""
    names = [stage.name for stage in stages]
    return list(stages) if name is None else list(stages[: names.index(name) + 1])


def _check_space(plan: Plan, store: Store) -> None:
    assert plan.model is not None, "a run has its model"
    if all(store.get(stage.key) for stage in plan.stages):
        return
    needed = _SPACE_FACTOR * 4 * Checkpoint(plan.model).num_parameters
    store.root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(store.root).free
    if free < needed:
        raise StageError(
            f"{store.root} has {free / 1e9:.1f} GB free, a run of this recipe takes up to {needed / 1e9:.1f} GB; "
            "free some space, delete old artifacts there, or choose another disk with --artifacts"
        )


@dataclass(frozen=True)
class _Result:
    """A stage that was measured.

    Attributes:
        checkpoint: Its checkpoint.
        measured: Its measurement.
        report: Its entry of the report.
    """

    checkpoint: SealedFolder
    measured: Measured
    report: StageReport


def _baseline(
    stage: PlannedStage, task: str, builder: Builder, measurer: Measurer, elsewhere: Mapping[str, Measurer]
) -> StageReport:
    """Measures the baseline of all stages of a task.

    Args:
        stage: The task's first stage, or the one that makes the baseline if the recipe's checkpoint is not it.
        task: The recipe's task.
        builder: Builds the stage.
        measurer: Measures the baseline.
        elsewhere: Measure it on further devices, by their names.
    """
    if stage.key == stage.baseline:
        builder.build(stage)
    start = time.monotonic()
    name = "baseline" if stage.task == task else f"baseline ({stage.task})"
    prepared = builder.prepared(stage.task)
    measured = measurer.measure(name, stage.baseline_inputs, prepared)
    others = {
        device: there.measure(f"{name} on {device}", stage.baseline_device_inputs[device], prepared, parity=False)
        for device, there in elsewhere.items()
    }
    remarks = [*builder.notes, *prepared.notes]
    return StageReport(
        name=name,
        stage="baseline",
        task=stage.task,
        verdict="pass",
        seconds=round(time.monotonic() - start, 2),
        from_cache=measured.from_cache and builder.everything_from_cache,
        measurements=measurements(measured.evidence) | judging.of_devices(others),
        gates=[],
        details={"notes": remarks} if remarks else {},
    )


def _measured(
    stage: PlannedStage, builder: Builder, measurer: Measurer, elsewhere: Mapping[str, Measurer], noisy: int
) -> _Result:
    """Builds, measures and judges a stage of a run with so many noisy gates."""
    built = builder.build(stage)
    start = time.monotonic()
    prepared = builder.prepared(stage.task)
    measured = measurer.measure(
        stage.name,
        stage.measure_inputs,
        prepared,
        recorded_rows=stage.spec.recorded_rows,
        ships=stage.spec.ships,
    )
    others = {
        device: there.measure(f"{stage.name} on {device}", stage.device_inputs[device], prepared, parity=False)
        for device, there in elsewhere.items()
    }
    gates = judging.judge(stage, measured, others, noisy)
    details = {**built.artifact.facts, "speedup": judging.speedup(measured)}
    if others:
        details["speedups"] = {device: judging.speedup(found) for device, found in others.items()}
    if measured.parity is not None:
        details["parity"] = measured.parity
    if remarks := [*built.artifact.facts.get("notes", []), *notes(stage.spec, measured, stage.measure_inputs["host"])]:
        details["notes"] = remarks
    report = StageReport(
        name=stage.name,
        stage=stage.spec.kind,
        task=stage.task,
        verdict=overall([gate.verdict for gate in gates]),
        seconds=round(built.seconds + time.monotonic() - start, 2),
        from_cache=built.from_cache and measured.from_cache,
        measurements=measurements(measured.evidence) | judging.of_devices(others),
        gates=gates,
        details=details,
    )
    return _Result(built.artifact.sealed, measured, report)


def _unmeasured(stage: PlannedStage, builder: Builder) -> StageReport:
    """Builds a stage that leaves training to the next one: measured before, it would only look bad."""
    built = builder.build(stage)
    return StageReport(
        name=stage.name,
        stage=stage.spec.kind,
        task=stage.task,
        verdict="pass",
        seconds=round(built.seconds, 2),
        from_cache=built.from_cache,
        measurements={},
        gates=[],
        details=built.artifact.facts,
    )


def forget(plan: Plan, store: Store, against: OtherRun | None = None) -> None:
    """Drops a recipe's stages and measurements from the store, for `--fresh`."""
    for stage in plan.stages:
        store.discard(stage.key)
        for inputs in (*stage.measured, stage.baseline_inputs, *stage.baseline_device_inputs.values()):
            store.discard(key_of(inputs))
        if against is not None:
            store.discard(key_of(stage.regression_inputs(against.key)))
