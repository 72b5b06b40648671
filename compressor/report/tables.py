"""The tables of a report, as texts: Markdown and HTML show the same ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from compressor.gates.metrics import PROVIDERS, metric_of, node_share, partitions
from compressor.report.model import DeviceFileReport, FormatReport, Measurement, Report, StageReport
from compressor.report.numbers import SIGNS, bound, cells, gate_text, header, number, quality_metric, score
from compressor.tasks import TASKS, main_metric

_MOST_ROWS = 16
"""Longest table of matrices, so that a comment on a pull request stays readable."""

_MOST_NODES = 0.5
"""Share of a graph's nodes from which on it is shown what execution providers would take."""

_OF_SMALLER = ("spearman", "recall_at_1")
"""The metrics of vectors in smaller forms that are shown: one of pairs, one of retrieval."""

_BLOCKS = "▁▂▃▄▅▆▇█"

BOUNDS = (
    "Brackets hold one-sided 95 % bounds: Student's t over processes for latency and memory, Clopper and Pearson's for"
    " accuracy, score intervals and bootstraps of the same rows for differences. The bound by which a gate can fail is"
    " wider where a run has several gates. Speed-up is a ratio of alternating calls in one process."
)
"""How the bounds and the speed-up are computed."""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        header: Names of the columns.
        rows: Cells.
        words: Number of columns from the left that hold words; the others hold numbers.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1


def stages(report: Report) -> Table:
    """Every stage with its measurements."""
    return Table(header(report), cells(report), 2)


def gates(report: Report) -> Table | None:
    """Every gate with its observed value and verdict."""
    rows = [[entry.stage, gate_text(entry.result), SIGNS[entry.result.verdict]] for entry in report.gates]
    return Table(["stage", "gate", "verdict"], rows, 3) if rows else None


def other_scores(report: Report) -> Table | None:
    """The task's metrics other than its primary one."""
    others = [name for name in TASKS[report.task].METRICS if name != quality_metric(report)]
    found = [name for name in others if any(name in stage.measurements for stage in report.stages)]
    rows = [
        [stage.name, *(score(stage.measurements.get(name)) for name in found)]
        for stage in report.stages
        if stage.task == report.task
    ]
    return Table(["stage", *found], rows) if found else None


def smaller_vectors(report: Report) -> tuple[Table, str] | None:
    """What is lost by vectors in smaller forms, stage by stage; None where none are measured."""
    stages = [stage for stage in report.stages if stage.task == report.task and stage.measurements]
    measured = [metric_of(name) for name in dict.fromkeys(name for stage in stages for name in stage.measurements)]
    small = [metric for metric in measured if metric.vectors and metric.base in _OF_SMALLER]
    forms = ["", *dict.fromkeys(metric.vectors for metric in small)]
    rows = [
        [form or "as they are", base, *(_value(stage, f"{base}[{form}]" if form else base) for stage in stages)]
        for base in _OF_SMALLER
        if any(metric.base == base for metric in small)
        for form in forms
    ]
    text = (
        "Vectors in smaller forms: the first numbers, normalised again; int8: a byte for each number; binary: a bit. "
        "Bounds and other metrics of them are in report.json."
    )
    return (Table(["vectors", "metric", *(stage.name for stage in stages)], rows, 2), text) if small else None


def _value(stage: StageReport, metric: str) -> str:
    return number(stage.measurements[metric].value) if metric in stage.measurements else "–"


def thresholds(report: Report) -> tuple[Table, str] | None:
    """The threshold of each label in the stages that chose some, and what they were chosen on."""
    stages = [stage for stage in report.stages if "thresholds" in stage.details]
    if not stages:
        return None
    names = list(stages[-1].details["thresholds"])
    rows = [[name, *(f"{stage.details['thresholds'][name]:g}" for stage in stages)] for name in names[:_MOST_ROWS]]
    text = f"A text is given a label if its probability is above. Chosen on {stages[-1].details['threshold_rows']} "
    text += "training rows that no stage trains on."
    if len(names) > _MOST_ROWS:
        text += f" {len(names) - _MOST_ROWS} more labels are in report.json."
    return Table(["label", *(stage.name for stage in stages)], rows), text


def kept_in_float(stage: StageReport) -> tuple[str, Table | None] | None:
    """The matrices that quantization kept in float, and why; None unless the recipe limits the drop."""
    found = stage.details.get("selection")
    if found is None:
        return None
    vectors, kept, everything = TASKS[stage.task].HEAD.vectors, found["kept"], len(found["matrices"])
    metric = "the mean cosine with the vectors in float" if vectors else main_metric(stage.task, stage.measurements)
    summary = (
        f"{stage.name}: {kept or 'none'} of {everything} matrices stay in float, so that {metric} drops by at most "
        f"{number(found['max_drop'])} on rows that gates do not use: {number(found['float'])} in float, "
        f"{number(found['quantized'])} with every matrix quantized, {number(found['chosen'])} with this choice."
    )
    rows = [
        [matrix["name"], f"{matrix['divergence']:.2e}", f"{matrix['multiply_adds']:.1%}", f"{matrix['size']:.1%}"]
        for matrix in found["matrices"][:kept]
    ]
    if kept > _MOST_ROWS:
        rows = [*rows[: _MOST_ROWS - 1], [f"and {kept - _MOST_ROWS + 1} more, in report.json", "", "", ""]]
    lost = "1 - cosine if only it is quantized" if vectors else "divergence if only it is quantized, nats"
    header = ["matrix in float", lost, "multiply-adds", "bytes"]
    return summary, Table(header, rows) if rows else None


def parity(report: Report) -> tuple[Table, str] | None:
    """Differences between each exported format and its reference, and the inputs they were compared on."""
    found = [(stage.name, stage.details["parity"]) for stage in report.stages if "parity" in stage.details]
    if not found:
        return None
    rows = []
    for name, compared in found:
        for form, entry in compared["formats"].items():
            asked = str(entry.get("rows", compared["rows"]))  # a slow format is compared on a sample
            numbers = [number(entry["label_agreement"]), number(entry["max_abs_diff"])]
            rows.append([name, form, entry["against"], asked, *numbers, entry["worst"], f"{entry['min_cosine']:.6f}"])
    _, last = found[-1]
    inputs = (
        f"Compared on {last['rows']} validation rows (a slow format on a sample of them), in batches and one by one; "
        "on rows of 1, 2 and the maximum number of tokens; on two segments; with padding on the left, on the right "
        f"and inside; and without token types ({last['no_token_types']})."
    )
    if any(entry.get("kind") == "padded" for entry in last["formats"].values()):  # older reports have none
        inputs += " What is not in float is also compared with itself, on rows that are padded."
    header = ["stage", "format", "reference", "rows", _same(report)]
    return Table([*header, "largest difference", "where", "smallest cosine"], rows, 3), inputs


def formats(report: Report) -> tuple[Table, str] | None:
    """Each file that ships, and how its numbers came about."""
    if not report.formats:
        return None
    quality = quality_metric(report)
    header = ["file", "precision", "verdict", quality, "p50 ms", "p95 ms", "times float's speed", "MB", "peak MB"]
    rows = [[*format_cells(entry, quality), agreement(entry)] for entry in report.formats]
    texts = ["All files that run here, and the float forms of those in int8 or int4, are timed in turn."]
    some = [f"{entry.name} on {entry.rows}" for entry in report.formats if entry.rows is not None]
    if some:
        texts.append(f"Scored on a sample of the rows: {', '.join(some)}.")
    for processors, names in _saturating(report.formats).items():
        texts.append(
            f"On {processors}, ONNX Runtime clips sums of 8-bit products of {', '.join(names)}: labels can differ "
            "there. reduce_range: true avoids it, and the session option session.x64quantprecision=1, which is slower."
        )
    if placed := [text for entry in report.formats for text in _placed(entry)]:
        texts.append(f"By ONNX Runtime's checker {'; '.join(placed)}.")
    if never := [entry.name for entry in report.formats if not entry.ran]:
        texts.append(f"Evaluated, never run on a device: {', '.join(never)}.")
    return Table([*header, _same(report)], rows, 3), " ".join(texts)


def devices(report: Report) -> tuple[Table, str] | None:
    """What ships as devices ran it, and what those devices are."""
    rows = [
        [name, form, str(ran.rows), number(ran.label_agreement), number(ran.max_abs_diff), *map(_bounded, _times(ran))]
        for name, device in report.devices.items()
        for form, ran in device.files.items()
    ]
    if not rows:
        return None
    told = [f"{name} ({entry.kind}): {_pairs(entry.description)}." for name, entry in report.devices.items()]
    text = "Recorded rows were asked again after the run, and compared with the recorded answers. The manifest does "
    header = ["device", "file", "rows", _same(report), "largest difference", "p50 ms", "p95 ms"]
    return Table(header, rows, 2), " ".join([f"{text}not cover this table.", *told])


def _times(ran: DeviceFileReport) -> tuple[Measurement, ...]:
    return ran.latency_p50_ms, ran.latency_p95_ms


def _bounded(time: Measurement) -> str:
    """Milliseconds with their bounds."""
    return f"{time.value:.2f} [{bound(time.low)}, {bound(time.high)}]"


def _pairs(values: Mapping[str, str | int]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _same(report: Report) -> str:
    """The column with the share of equal answers."""
    return f"same {TASKS[report.task].HEAD.answer}"


def _saturating(formats: Sequence[FormatReport]) -> dict[str, list[str]]:
    """The files whose products are clipped, by the processors that do it."""
    found: dict[str, list[str]] = {}
    for entry in formats:
        if entry.saturation:
            found.setdefault(entry.saturation["processors"], []).append(entry.name)
    return found


def _placed(entry: FormatReport) -> list[str]:
    """The execution providers of phones that would take most of a graph: of one with free sizes none does."""
    found = entry.measurements
    return [
        f"{name} would take {found[node_share(provider)].value:.0%} of the nodes of {entry.name}, in pieces: "
        f"{found[partitions(provider)].value:.0f}"
        for provider, name in PROVIDERS.items()
        if node_share(provider) in found and found[node_share(provider)].value > _MOST_NODES
    ]


def format_cells(entry: FormatReport, quality: str) -> list[str]:
    """A file in cells, up to its peak memory."""
    found = entry.measurements

    def shown(metric: str, scale: float, form: str) -> str:
        return format(found[metric].value / scale, form) if metric in found else "–"

    speedup = "–" if entry.speedup_over_float is None else f"{entry.speedup_over_float:.2f}x"
    return [
        entry.name,
        entry.precision,
        SIGNS[entry.verdict] + ("" if entry.ran else ", not run"),
        score(found.get(quality)),
        shown("latency_p50_ms", 1, ".2f"),
        shown("latency_p95_ms", 1, ".2f"),
        speedup,
        shown("size_bytes", 1e6, ".1f"),
        shown("peak_rss_bytes", 1e6, ".0f"),
    ]


def agreement(entry: FormatReport) -> str:
    """The share of a file's answers that are its reference's."""
    return f"{number(entry.parity['label_agreement'])} of {entry.parity['against']}" if entry.parity else "–"


def curves(report: Report) -> Table | None:
    """Each loss term of each training stage, from the first to the last point of its curve."""
    rows = [
        [stage.name, name, f"{curve[0][1]:.4f}", f"{curve[-1][1]:.4f}", sparkline([loss for _, loss in curve])]
        for stage in report.stages
        for name, curve in loss_curves(stage).items()
    ]
    return Table(["stage", "loss term", "first", "last", "curve"], rows, 2) if rows else None


def loss_curves(stage: StageReport) -> dict[str, list[tuple[float, float]]]:
    """(step, loss) of the loss, and of its terms if there are several; undefined points are left out."""
    terms = stage.details.get("terms", {})
    found = {"loss": stage.details.get("loss", []), **(terms if len(terms) > 1 else {})}
    finite = {
        name: [(step, loss) for step, loss in curve if loss is not None and math.isfinite(loss)]
        for name, curve in found.items()
    }
    return {name: curve for name, curve in finite.items() if curve}


def sparkline(values: Sequence[float], width: int = 20) -> str:
    """A curve in one line of text, from its lowest to its highest value."""
    bins = [values[len(values) * i // width : max(len(values) * (i + 1) // width, len(values) * i // width + 1)]
            for i in range(width)] if len(values) > width else [[value] for value in values]  # fmt: skip
    means = [sum(part) / len(part) for part in bins]
    low, high = min(means), max(means)
    scale = (len(_BLOCKS) - 1) / (high - low) if high > low else 0
    return "".join(_BLOCKS[round((mean - low) * scale)] for mean in means)


def notes(report: Report) -> list[str]:
    """The notes of the run and of all stages."""
    of_stages = [(stage.name, note) for stage in report.stages for note in stage.details.get("notes", [])]
    return [*report.notes, *(f"{name}: {note}" for name, note in of_stages)]
