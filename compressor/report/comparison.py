"""Runs side by side: what `compress compare` finds."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.errors import Problem, RecipeError
from compressor.gates.judge import Verdict
from compressor.gates.spec import REGRESSION
from compressor.report import model
from compressor.report.charts import trade_off
from compressor.report.model import Measurement, Report, StageReport
from compressor.report.numbers import SIGNS, score
from compressor.report.tables import Table
from compressor.tasks import TASKS

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Entry:
    """One checkpoint that is compared.

    Attributes:
        run: Its run: the recipe's name, and what differs in the paths of runs that share it.
        path: The run, as it was given.
        stage: The stage's name.
        baseline: Whether it is what the run began with, and not what it came to.
        verdict: The run's.
        measurements: By metric.
        kept: Its quality as a share of its run's baseline's; None for a baseline, and where that has none to keep.
        training_seconds: What training took out of what the run began with, or of that; 0 where nothing tells.
        front: Costs in which it is on the Pareto front with the task's quality.
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
        entries: Baselines and results, in the order the runs were given.
        caveats: What is to be kept in mind.
    """

    task: str
    quality: str
    entries: list[Entry]
    caveats: list[str]


def compare(paths: Sequence[Path], every_stage: bool = False) -> list[Group]:
    """Compares what runs came to.

    Args:
        paths: Folders of runs, or their report.json.
        every_stage: Compare what each stage came to, not only the last; what runs have in common once.

    Raises:
        RecipeError: Paths that are no runs, all of them.
    """
    reports: list[tuple[Path, Report]] = []
    problems: list[Problem] = []
    for path in {model.file(path).resolve(): path for path in paths}.values():
        try:
            report = model.read(path)
            if not any(stage.measurements for stage in report.stages):
                problems.append(Problem(str(path), "nothing was measured in this run"))
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
    """Recipes' names; where runs share one, with what differs in their paths: `mobile_int8 (main)`."""
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
    """How many parts all paths begin with."""
    same = (len(set(parts)) == 1 for parts in zip(*paths, strict=False))
    return sum(takewhile(bool, same))


def _folder(path: Path) -> Path:
    """A run's folder."""
    return model.file(path).parent


def _entries(run: str, path: Path, report: Report, every_stage: bool) -> tuple[str, list[Entry]]:
    """What a run came to, the task it does, and what it began with."""
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
        # What the teacher's own stage came to is the baseline.
        stages = [s for s in report.built if s.measurements and s.task == last.task and s.stage != "finetune"]
    else:
        stages = [last] if last.stage != "baseline" else []
    return last.task, [entry(stage) for stage in (baseline, *stages) if stage is not None]


def _kept(stage: StageReport, baseline: StageReport) -> float | None:
    """What share of its baseline's quality a stage has."""
    metric = TASKS[stage.task].METRICS[0]
    scores = [each.measurements[metric].value for each in (stage, baseline) if metric in each.measurements]
    return scores[0] / scores[1] if len(scores) == 2 and scores[1] > 0 and not math.isnan(scores[0]) else None


def _training_seconds(report: Report) -> dict[str, float]:
    """By stage, what training took since the teacher was there; of the baseline, what the teacher took."""
    found, total = {"baseline": 0.0}, 0.0
    for stage in report.built:
        seconds = float(stage.details.get("training_seconds", 0.0))
        if stage.stage == "finetune" and found["baseline"] == 0.0:
            found["baseline"] = seconds
        else:
            total += seconds
        found[stage.name] = total
    return found


def _each_once(found: Sequence[tuple[Report, list[Entry]]]) -> list[tuple[Report, list[Entry]]]:
    """Without entries that an earlier run has with the very same measurements: stages that came from the cache."""
    seen: list[Mapping[str, Measurement]] = []
    kept = []
    for report, entries in found:
        new = [entry for entry in entries if entry.measurements not in seen]
        seen += [entry.measurements for entry in new]
        kept.append((report, new))
    return kept


def _group(task: str, found: Sequence[tuple[Report, list[Entry]]]) -> Group:
    quality = TASKS[task].METRICS[0]
    entries = [entry for _, run in found for entry in run]
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
    told = [
        "Latencies of different runs were timed in different processes, at different times: a few percent between two "
        f"of them may be chance. To time models in turn, in one process: compress bench {shown}"
    ]
    rows = _rows(quality, entries)
    if len(rows) > 1:
        told.append(f"{quality} was scored on different rows: {_counts(rows)} of them.")
    differing = [name for name, values in _settings(reports).items() if len(values) > 1]
    if differing:
        told.append(f"Runs were measured in different ways, or on different machines: {', '.join(differing)} differ.")
    return told


def _settings(reports: Sequence[Report]) -> dict[str, set[str]]:
    """What decides a latency, with the values that runs had of it."""
    machine = ("system", "machine", "cpu", "cpu_features", "cores", "onnxruntime", "torch")
    values: dict[str, set[str]] = {}
    for report in reports:
        told = {**report.measure, **{name: report.environment[name] for name in machine if name in report.environment}}
        for name, value in told.items():
            values.setdefault(name, set()).add(str(value))
    return values


def _rows(quality: str, entries: Sequence[Entry]) -> list[int]:
    """On how many rows quality was scored."""
    return sorted({entry.measurements[quality].n for entry in entries if quality in entry.measurements})


def _counts(rows: Sequence[int]) -> str:
    return ", ".join(f"{n:,}" for n in rows)


def title(group: Group) -> str:
    """What a group is of."""
    rows = _rows(group.quality, group.entries)
    return f"{group.task}: {group.quality} on {_counts(rows)} rows" if rows else group.task


def table(group: Group) -> Table:
    """A group as cells; brackets hold one-sided 95 % bounds."""
    header = ["run", "stage", "verdict", "Pareto front", group.quality, "kept", "p50 ms", "p95 ms", "MB", "peak MB"]
    return Table([*header, "parameters", "trained"], [_row(entry, group.quality) for entry in group.entries], 4)


def _row(entry: Entry, quality: str) -> list[str]:
    def show(metric: str, scale: float, form: str) -> str:
        found = entry.measurements.get(metric)
        return "–" if found is None else format(found.value / scale, form)

    return [
        entry.run,
        entry.stage,
        "–" if entry.baseline else SIGNS[entry.verdict],
        ", ".join(trade_off.COSTS[cost][0] for cost in entry.front) or "–",
        score(entry.measurements.get(quality)),
        "–" if entry.kept is None else f"{entry.kept:.1%}",
        _bounded(entry.measurements.get("latency_p50_ms")),
        show("latency_p95_ms", 1, ".2f"),
        show("size_bytes", 1e6, ".1f"),
        show("peak_rss_bytes", 1e6, ".0f"),
        f"{show('num_parameters', 1e6, '.2f')} M",
        duration(entry.training_seconds) if entry.training_seconds else "–",
    ]


def duration(seconds: float) -> str:
    """Seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _bounded(found: Measurement | None) -> str:
    if found is None:
        return "–"
    low, high = ("–" if bound is None else f"{bound:.2f}" for bound in (found.low, found.high))
    return f"{found.value:.2f} [{low}, {high}]"


def to_json(groups: Sequence[Group]) -> dict[str, Any]:
    """The comparison for programs."""
    found: dict[str, Any] = model.finite({"tasks": [asdict(group) for group in groups]})
    return found


def print_groups(groups: Sequence[Group], console: Console) -> None:
    """Prints the comparison."""
    from rich.table import Table as Printed
    from rich.text import Text

    for group in groups:
        shown = table(group)
        printed = Printed(title=Text(title(group)), title_justify="left", header_style="bold")
        for index, name in enumerate(shown.header):
            printed.add_column(name, justify="right" if index >= shown.words else "left")
        for row in shown.rows:
            printed.add_row(*map(Text, row))  # as Text: names may hold what would be markup
        console.print(printed)
        for caveat in group.caveats:
            console.print(Text(caveat), soft_wrap=True)
