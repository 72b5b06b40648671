"""Compares runs: their baselines and results, by task, with the Pareto front of each."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from compressor.errors import Problem, RecipeError
from compressor.gates.judge import Verdict
from compressor.gates.spec import REGRESSION
from compressor.report import model
from compressor.report.charts import trade_off
from compressor.report.model import Measurement, Report, StageReport
from compressor.stages import finetune
from compressor.tasks import main_metric


@dataclass(frozen=True)
class Entry:
    """One compared checkpoint.

    Attributes:
        run: Name of its run: the recipe's, with the differing part of the path if several runs share it.
        path: Path of the run, as it was given.
        stage: The stage's name.
        baseline: Whether it is the run's baseline, not a result.
        verdict: The run's verdict.
        measurements: By metric.
        kept: Its quality as a share of the baseline's; None for the baseline itself, or if that share is undefined.
        training_seconds: Training time from the baseline to it, or of the baseline itself; 0 if unknown.
        front: Costs for which it is Pareto-optimal, with the task's quality.
    """

    run: str
    path: str
    stage: str
    baseline: bool
    verdict: Verdict
    measurements: Mapping[str, Measurement]
    kept: float | None = None
    training_seconds: float = 0.0
    front: tuple[str, ...] = ()


@dataclass(frozen=True)
class Group:
    """Checkpoints of one task.

    Attributes:
        task: The task.
        quality: The metric they are compared by.
        entries: Baselines and results, in the order of the runs.
        caveats: Reasons why differences may mean less than they seem to.
    """

    task: str
    quality: str
    entries: list[Entry]
    caveats: list[str]


def compare(paths: Sequence[Path], every_stage: bool = False) -> list[Group]:
    """Compares runs.

    Args:
        paths: Folders of runs, or their report.json.
        every_stage: Compare every stage's checkpoint, not only the last; stages that runs share appear once.

    Raises:
        RecipeError: Some paths are not runs; `problems` lists all of them.
    """
    reports: list[tuple[Path, Report]] = []
    problems: list[Problem] = []
    for path in {model.report_file(path).resolve(): path for path in paths}.values():
        try:
            report = model.read(path)
            if not any(stage.measurements for stage in report.stages):
                problems.append(
                    Problem(str(path), "this run measured nothing", "run a stage with gates", kind="missing")
                )
            reports.append((path, report))
        except RecipeError as error:
            problems += error.problems
    if problems:
        raise RecipeError(problems)
    pairs: dict[str, list[tuple[Report, list[Entry]]]] = {}
    for name, (path, report) in zip(_names(reports), reports, strict=True):
        task, entries = _entries(name, path, report, every_stage)
        pairs.setdefault(task, []).append((report, entries))
    if every_stage:
        pairs = {task: _each_once(found) for task, found in pairs.items()}
    return [_group(task, found) for task, found in pairs.items()]


def _names(reports: Sequence[tuple[Path, Report]]) -> list[str]:
    """The recipes' names, with the differing part of the path if runs share a name: `mobile_int8 (main)`."""
    shared: dict[str, list[tuple[str, ...]]] = {}
    for path, report in reports:
        shared.setdefault(report.recipe, []).append(_folder(path).resolve().parts)
    names = []
    for path, report in reports:
        others, own = shared[report.recipe], _folder(path).resolve().parts
        if len(others) == 1:
            names.append(report.recipe)
            continue
        first = _common(others)
        last = _common([parts[first:][::-1] for parts in others])
        different = "/".join(own[first : len(own) - last])
        names.append(f"{report.recipe} ({different})" if different else report.recipe)
    return names


def _common(paths: Sequence[Sequence[str]]) -> int:
    """Number of leading parts that all paths share."""
    same = (len(set(parts)) == 1 for parts in zip(*paths, strict=False))
    return sum(takewhile(bool, same))


def _folder(path: Path) -> Path:
    """A run's folder."""
    return model.report_file(path).parent


def _entries(run: str, path: Path, report: Report, every_stage: bool) -> tuple[str, list[Entry]]:
    """A run's task, and the entries of its baseline and its results."""
    measured = [stage for stage in report.stages if stage.measurements and stage.stage != REGRESSION]
    last = measured[-1]
    seconds = _training_seconds(report)

    baseline = next((stage for stage in measured if stage.stage == "baseline" and stage.task == last.task), None)

    def entry(stage: StageReport) -> Entry:
        return Entry(
            run,
            str(path),
            stage.name,
            stage is baseline,
            report.verdict,
            stage.measurements,
            None if baseline is None or stage is baseline else _kept(stage, baseline),
            seconds.get(stage.name, 0.0),
        )

    if every_stage:
        # The checkpoint of a finetune stage is the teacher, which is the baseline already.
        stages = [s for s in report.built if s.measurements and s.task == last.task and s.stage != finetune.STAGE.kind]
    else:
        stages = [last] if last.stage != "baseline" else []
    return last.task, [entry(stage) for stage in (baseline, *stages) if stage is not None]


def _kept(stage: StageReport, baseline: StageReport) -> float | None:
    """A stage's quality as a share of its baseline's."""
    metric = main_metric(stage.task, stage.measurements)
    scores = [each.measurements[metric].value for each in (stage, baseline) if metric in each.measurements]
    return scores[0] / scores[1] if len(scores) == 2 and scores[1] > 0 and not math.isnan(scores[0]) else None


def _training_seconds(report: Report) -> dict[str, float]:
    """Training time by stage, summed since the teacher; the baseline's is that of the teacher."""
    found, total = {"baseline": 0.0}, 0.0
    for stage in report.built:
        seconds = float(stage.details.get("training_seconds", 0.0))
        if stage.stage == finetune.STAGE.kind and found["baseline"] == 0.0:
            found["baseline"] = seconds
        else:
            total += seconds
        found[stage.name] = total
    return found


def _each_once(found: Sequence[tuple[Report, list[Entry]]]) -> list[tuple[Report, list[Entry]]]:
    """Leaves out entries whose measurements equal those of an earlier run: stages that came from the cache."""
    seen: list[Mapping[str, Measurement]] = []
    kept = []
    for report, entries in found:
        new = [entry for entry in entries if entry.measurements not in seen]
        seen += [entry.measurements for entry in new]
        kept.append((report, new))
    return kept


def _group(task: str, found: Sequence[tuple[Report, list[Entry]]]) -> Group:
    entries = [entry for _, run in found for entry in run]
    quality = main_metric(task, {name for entry in entries for name in entry.measurements})
    fronts = {
        cost: trade_off.on_front([entry.measurements for entry in entries], quality, cost) for cost in trade_off.COSTS
    }
    placed = [
        replace(entry, front=tuple(cost for cost, best in fronts.items() if best[index]))
        for index, entry in enumerate(entries)
    ]
    return Group(task, quality, placed, _caveats(quality, [report for report, _ in found], placed))


def _caveats(quality: str, reports: Sequence[Report], entries: Sequence[Entry]) -> list[str]:
    if len(reports) == 1:
        return []
    models = [_folder(Path(path)) / "model" for path in dict.fromkeys(entry.path for entry in entries)]
    shown = shlex.join(str(folder) for folder in models if folder.is_dir()) or "RUN/model…"
    caveats = [
        "Latencies of different runs were measured in different processes, at different times: differences of a few "
        f"percent may be chance. To time the models in one process: compress bench {shown}"
    ]
    rows = row_counts(quality, entries)
    if len(rows) > 1:
        counts = ", ".join(f"{n:,}" for n in rows)
        caveats.append(f"{quality} was scored on different numbers of rows: {counts}.")
    differing = [name for name, values in _settings(reports).items() if len(values) > 1]
    if differing:
        caveats.append(f"Runs were measured under different conditions: {', '.join(differing)} differ.")
    return caveats


def _settings(reports: Sequence[Report]) -> dict[str, set[str]]:
    """The settings and properties of the machine that decide a latency, each with its values in all runs."""
    machine = ("system", "machine", "cpu", "cpu_features", "cores", "onnxruntime", "torch")
    values: dict[str, set[str]] = {}
    for report in reports:
        known = {**report.measure, **{name: report.environment[name] for name in machine if name in report.environment}}
        for name, value in known.items():
            values.setdefault(name, set()).add(str(value))
    return values


def row_counts(quality: str, entries: Sequence[Entry]) -> list[int]:
    """The different numbers of rows that quality was scored on."""
    return sorted({entry.measurements[quality].n for entry in entries if quality in entry.measurements})


def to_json(groups: Sequence[Group]) -> dict[str, Any]:
    """The comparison for programs."""
    found: dict[str, Any] = model.finite({"tasks": [asdict(group) for group in groups]})
    return found
