"""Whether each gate's metric is measured there, and its rules make sense for it."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping

from compressor.errors import Add, Location, suggest
from compressor.gates.judge import AT_LEAST
from compressor.gates.metrics import (
    EVALUATED_PARITY,
    METRICS,
    PADDED_DIFFERENCE,
    PADDED_LABELS,
    PARITY,
    PROVIDERS,
    QUALITY_KINDS,
    QUANTIZED_PARITY,
    RELATIVE_RULES,
    Metric,
    form_and_name,
    is_metric,
    metric_of,
    node_share,
    partitions,
)
from compressor.gates.spec import FLOAT, REGRESSION, Gate
from compressor.recipe.checks.smaller_vectors import check_smaller
from compressor.recipe.document import Recipe
from compressor.runtimes import TARGETS, TEXT_RUNTIME
from compressor.runtimes.base import FLOAT32
from compressor.runtimes.shipped import runs_on_tokens
from compressor.tasks import TASKS

_TIMES = ("latency_p50_ms", "latency_p95_ms")
_PADDED = (PADDED_LABELS, PADDED_DIFFERENCE)
_NEVER_RUN = ", ".join(name for name, form in TARGETS.items() if not form.runs_here)
_NO_FLOATS = (
    "compares float formats, and no target is one",
    f"gate {QUANTIZED_PARITY} or {EVALUATED_PARITY}, or add a target that stays in float, such as onnx",
)
_NOTHING_TO_COMPARE = {
    QUANTIZED_PARITY: (
        "compares formats of a quantized graph, and there is one at most",
        "quantize, and add torchscript or ort to targets; or drop the gate",
    ),
    EVALUATED_PARITY: (
        "is of formats that nothing here runs, and none is among the targets",
        f"add {_NEVER_RUN} to targets; or drop the gate",
    ),
    **dict.fromkeys(
        _PADDED, ("is of files in int8, int4 or fp16 that run here, and none ships", "quantize, or drop the gate")
    ),
}
"""What is wrong with a gate of parity where the formats do not ship that it is of, and the way out."""
_PLACEMENT = tuple(metric(provider) for metric in (partitions, node_share) for provider in PROVIDERS)


def gate_metrics(task: str) -> list[str]:
    """Names of the metrics that a stage of this task can be gated by."""
    return [name for name, metric in METRICS.items() if metric.kind not in QUALITY_KINDS or name in TASKS[task].METRICS]


def check_gates(recipe: Recipe, add: Add) -> None:
    """Whether each gate's metric is measured there and its rules make sense for it."""
    for index, stage in enumerate(recipe.stages):
        _check_size_only(recipe, index, add)
        _check_fixed_lengths(recipe, index, add)
        for name, gate in stage.gates.items():
            place = ("stages", index, "gates", name)
            if (form := form_and_name(name)[0]) in recipe.measure.devices:
                _check_device(name, gate, recipe, index, place, add)
                continue
            if form:
                _check_file(name, gate, recipe, index, place, add)
                continue
            if gate.relative_to == FLOAT:
                what = f"{name} has no form in float to be relative to: a file that ships has, such as onnx_int8.{name}"
                add((*place, "relative_to"), what, "allowed: baseline, previous", kind="conflict")
                continue
            if not _check_rules(name, gate.limits, recipe, recipe.task_of(stage), place, add):
                continue
            if metric_of(name).kind == "placement":
                _check_placement(name, recipe, index, place, add)
            if name in PARITY:
                _check_parity(name, recipe, index, place, add)
    for name, regression_gate in (recipe.regression or {}).items():
        _check_rules(name, regression_gate.limits, recipe, recipe.task, (REGRESSION, name), add)


def _check_device(name: str, gate: Gate, recipe: Recipe, index: int, place: Location, add: Add) -> None:
    """Whether a gate's metric is measured on each device, and can be compared so."""
    device, metric = form_and_name(name)
    task = recipe.task_of(recipe.stages[index])
    if is_metric(metric) and not metric_of(metric).noisy:
        what = f"{metric} is the same on every device"
        add(place, what, f"gate {metric} itself, without {device}", kind="conflict")
    elif gate.relative_to == FLOAT:
        add(
            (*place, "relative_to"),
            f"{name} cannot be relative to float",
            "allowed: baseline, previous",
            kind="conflict",
        )
    else:
        _check_rules(metric, gate.limits, recipe, task, place, add)


def _check_parity(name: str, recipe: Recipe, index: int, place: Location, add: Add) -> None:
    """Whether a stage leaves what a metric of parity compares."""
    stage = recipe.stages[index]
    if not stage.ships and name != QUANTIZED_PARITY:
        add(place, f"{name} is measured where formats are exported", "move the gate to export", kind="conflict")
    elif not stage.held(recipe.quantized(index)).intersection(PARITY[name]):
        what, hint = _NOTHING_TO_COMPARE.get(name, _NO_FLOATS)
        add(place, f"{name} {what}", hint, kind="conflict")


def _check_placement(name: str, recipe: Recipe, index: int, place: Location, add: Add) -> None:
    """Whether a stage leaves an ONNX graph that ships."""
    stage = recipe.stages[index]
    if not stage.ships:
        add(place, f"{name} is measured where formats are exported", "move the gate to export", kind="conflict")
    elif not any(map(_is_graph, stage.files(recipe.quantized(index)))):
        add(place, f"{name} is of an ONNX graph, and none ships", "add onnx to targets", kind="conflict")


def _check_fixed_lengths(recipe: Recipe, index: int, add: Add) -> None:
    """Whether there are graphs to write in fixed lengths."""
    stage = recipe.stages[index]
    if stage.longest_fixed and not stage.fixed_files(recipe.quantized(index)):
        what = "is of ONNX graphs, and none ships"
        add(("stages", index, "fixed_lengths"), what, "add onnx to targets, or drop fixed_lengths", kind="conflict")


def _check_size_only(recipe: Recipe, index: int, add: Add) -> None:
    """Whether the files that may be slow ship."""
    stage = recipe.stages[index]
    files = list(stage.files(recipe.quantized(index)))
    for name in stage.for_size:
        if name not in files:
            what = f"names {name!r}, and no such file ships: they are {', '.join(files)}"
            add(("stages", index, "size_only"), what, suggest(name, files), kind="unknown")


def _check_file(name: str, gate: Gate, recipe: Recipe, index: int, place: Location, add: Add) -> None:
    """Whether a gate's file ships, is measured by this metric, and can be compared so."""
    form, metric = form_and_name(name)
    stage, task = recipe.stages[index], recipe.task_of(recipe.stages[index])
    files, fixed = (each(recipe.quantized(index)) for each in (stage.files, stage.fixed_files))
    if not stage.ships:
        add(place, f"{name} is of a file that ships", "move the gate to export", kind="conflict")
    elif form not in files:
        what = f"no file {form!r} ships" + (f": they are {', '.join(files)}" if files else "")
        add(place, what, suggest(form, list(files)), kind="unknown")
    elif metric not in (allowed := _file_metrics(form, files[form], task, fixed)) and not (
        (_of_label(metric, task) or _of_vectors(metric, task)) and TASKS[task].METRICS[0] in allowed
    ):
        add(place, f"{metric!r} is not measured of {form}", suggest(metric, allowed), kind="unknown")
    elif gate.relative_to == FLOAT and (metric not in _TIMES or not files[form].startswith("int")):
        what = f"{name} cannot be relative to float: the latency of a file in int8 or int4 can"
        add((*place, "relative_to"), what, "allowed: baseline, previous", kind="conflict")
    else:
        _check_rules(metric, gate.limits, recipe, task, place, add)


def _of_label(name: str, task: str) -> bool:
    """Whether a name is that of a metric of single labels, in a task that has such; the labels are not known here."""
    return is_metric(name) and bool(metric_of(name).label) and hasattr(TASKS[task], "by_label")


def _of_vectors(name: str, task: str) -> bool:
    """Whether a name is that of a metric of smaller vectors, in a task that makes vectors."""
    return is_metric(name) and bool(metric_of(name).vectors) and TASKS[task].HEAD.vectors


def _is_padded(form: str, precision: str) -> bool:
    """Whether a file's answers to padded rows are compared with those to plain ones."""
    return precision != FLOAT32 and runs_on_tokens(form)


def _is_graph(form: str) -> bool:
    """Whether a file is an ONNX graph."""
    return form.partition("_")[0] == "onnx" and form != TEXT_RUNTIME.name


def _file_metrics(form: str, precision: str, task: str, fixed: Container[str]) -> list[str]:
    """The metrics of a file that ships; one of a fixed length gives the answers of its graph of free sizes."""
    found = ["size_bytes", "parity_label_agreement", "parity_max_abs_diff", "parity_min_cosine"]
    found += _PADDED if _is_padded(form, precision) else ()
    found += _PLACEMENT if _is_graph(form) else ()
    if form in TARGETS and not TARGETS[form].runs_here:
        return found
    return [*(() if form in fixed else TASKS[task].METRICS), *_TIMES, "peak_rss_bytes", *found]


def _check_rules(name: str, limits: Mapping[str, float], recipe: Recipe, task: str, place: Location, add: Add) -> bool:
    """Whether a gate's metric is measured in a task; notes that, and rules that make no sense for it."""
    allowed = gate_metrics(task)
    if _of_vectors(name, task):
        check_smaller(name, recipe, place, add)
    elif name not in allowed and not _of_label(name, task):
        what = f"{name!r} is not measured in {task}" if is_metric(name) else f"unknown metric {name!r}"
        add(place, what, suggest(name, allowed), kind="unknown")
        return False
    rules = metric_of(name).rules
    if place[0] == REGRESSION:
        rules = tuple(rule for rule in rules if rule in RELATIVE_RULES)
    for rule, limit in limits.items():
        if rule not in rules:
            hint = f"allowed: {', '.join(rules)}" if rules else "drop the gate"
            add((*place, rule), f"{rule} makes no sense for {name}", hint, kind="conflict")
        else:
            _check_limit(metric_of(name), rule, limit, (*place, rule), add)
    return True


def _check_limit(metric: Metric, rule: str, limit: float, place: Location, add: Add) -> None:
    """Whether a gate can hold, and can fail."""
    low, high = metric.limits(rule)
    if low <= limit <= high:
        return
    always = (limit < low) == (rule in AT_LEAST)
    what = f"is {limit:g}, and the gate could never {'fail' if always else 'hold'}"
    allowed = f"above {low:.0f}" if 0 < low < 1e-6 else f"at least {low:g}"
    allowed += f" and at most {high:g}" if math.isfinite(high) else ""
    share = f"did you mean {limit / 100:g}? Limits are shares, not percentages; " if low <= limit / 100 <= high else ""
    add(place, what, f"{share}allowed: {allowed}")
